// Every inline-PTX instruction that the kernels use, under a name that says what it does.
#pragma once

#include <cstdint>

namespace lathe::cuda::ptx {

/// The 32-bit address of shared memory that PTX instructions take.
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// The same number, of which the compiler knows nothing: what is computed from it is not kept in
/// registers throughout a loop, but computed in each turn.
__device__ __forceinline__ uint32_t recomputed(uint32_t x) {
    asm volatile("" : "+r"(x));
    return x;
}
__device__ __forceinline__ int64_t recomputed(int64_t x) {
    asm volatile("" : "+l"(x));
    return x;
}

/// Starts to copy 16 bytes from global to shared memory, past the L1 cache. Where `valid` is false,
/// 16 zero bytes are written and nothing is read.
__device__ __forceinline__ void copy_async_16(uint32_t shared, const void* global, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared), "l"(global),
                 "r"(valid ? 16 : 0)
                 : "memory");
}

/// The same of one float, through the L1 cache.
__device__ __forceinline__ void copy_async_4(uint32_t shared, const float* global, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared), "l"(global),
                 "r"(valid ? 4 : 0)
                 : "memory");
}

/// Ends a group of this thread's copies.
__device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}

/// Waits until at most `kPending` of this thread's latest groups are under way.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

/// Four 8x8 matrices of 16-bit elements: lanes 8j .. 8j+7 give the row addresses of matrix j; this
/// lane receives row lane/4, columns 2 (lane%4) and the next, of each.
__device__ __forceinline__ void load_matrices(uint32_t (&fragments)[4], uint32_t shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(fragments[0]), "=r"(fragments[1]), "=r"(fragments[2]), "=r"(fragments[3])
                 : "r"(shared)
                 : "memory");
}

/// The same, each matrix transposed: this lane receives rows 2 (lane%4) and the next of column
/// lane/4.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&fragments)[4],
                                                         uint32_t shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(fragments[0]), "=r"(fragments[1]), "=r"(fragments[2]), "=r"(fragments[3])
                 : "r"(shared)
                 : "memory");
}

/// c[16, 8] += a[16, 16] b[16, 8], bf16 with f32 sums. With g = lane/4, t = lane%4: a holds rows g
/// and g+8 (registers 0, 2 and 1, 3), columns 2t, 2t+1 (registers 0, 1) and those + 8; b rows 2t,
/// 2t+1 (register 0) and those + 8, column g; c rows g (0, 1) and g+8 (2, 3), columns 2t, 2t+1.
__device__ __forceinline__ void multiply_accumulate(float (&c)[4], const uint32_t (&a)[4],
                                                    uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// 2^x to about 2 units in the last place; results below 2^-126 become 0.
__device__ __forceinline__ float exp2_flushed(float x) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(x));
    return result;
}

}  // namespace lathe::cuda::ptx
