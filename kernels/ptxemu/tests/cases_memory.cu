// Planted faults in device memory and in what ends a kernel.
#undef NDEBUG  // device asserts are what is tested
#include <cassert>

#include "cases.h"

__global__ void set_all(int* a) { a[threadIdx.x] = 1; }

__global__ void read_next(const float* a, float* b) { b[threadIdx.x] = a[threadIdx.x + 1]; }
FAULT(oob_read, "OUT-OF-BOUNDS GLOBAL") {
    Dev<float> a(256), b(256);
    read_next<<<1, 256>>>(a.p, b.p);
}

__global__ void write_strided(int* a, int n) { a[threadIdx.x * 9] = n; }
FAULT(oob_write, "OUT-OF-BOUNDS GLOBAL") {
    Dev<int> a(1000), b(1000);
    write_strided<<<1, 128>>>(a.p, 1);
}

FAULT(use_after_free, "freed allocation") {
    int* p;
    cudaMalloc(&p, 4096);
    cudaFree(p);
    set_all<<<1, 32>>>(p);
}

FAULT(host_pointer, "OUT-OF-BOUNDS GLOBAL") {
    std::vector<int> host(1024);
    set_all<<<1, 32>>>(host.data());
}

FAULT(memcpy_oob, "copy to of 40 bytes") {
    int* p;
    cudaMalloc(&p, 36);
    int h[10] = {};
    cudaMemcpy(p, h, 40, cudaMemcpyHostToDevice);
}

__global__ void read_float4(float* a) {
    float4 v = *(float4*)(a + threadIdx.x);
    a[threadIdx.x] = v.x + v.w;
}
FAULT(misaligned, "MISALIGNED") {
    Dev<float> a(256);
    read_float4<<<1, 32>>>(a.p);
}

__global__ void copy_all(const float* a, float* b) { b[threadIdx.x] = a[threadIdx.x]; }
FAULT(global_uninitialised, "never written", "PTXEMU_GLOBAL_INIT=1") {
    Dev<float> a(64), b(64);
    cudaMemset(a.p, 0, 63 * 4);
    copy_all<<<1, 64>>>(a.p, b.p);
}
SILENT(global_initialised, "PTXEMU_GLOBAL_INIT=1") {
    Dev<float> a(64), b(64);
    cudaMemset(a.p, 0, 64 * 4);
    copy_all<<<1, 64>>>(a.p, b.p);
    check(b.get()[63] == 0, "copied");
}

__global__ void assert_three(int* a) {
    assert(a[threadIdx.x] == 3);
    a[threadIdx.x] = 4;
}
FAULT(device_assert, "assertion failed") {
    Dev<int> a(32);
    cudaMemset(a.p, 0, 128);
    assert_three<<<1, 32>>>(a.p);
}

__global__ void trap_on_zero(int* a) {
    if (a[threadIdx.x] == 0) __trap();
}
FAULT(device_trap, "trap executed") {
    Dev<int> a(32);
    cudaMemset(a.p, 0, 128);
    trap_on_zero<<<1, 32>>>(a.p);
}

__global__ void video_add(u32* a) {
    u32 r;
    asm volatile("vadd.s32.s32.s32 %0, %1, %2;" : "=r"(r) : "r"(a[0]), "r"(a[1]));
    a[0] = r;
}
FAULT(unknown_instruction, "UNSUPPORTED") {
    Dev<u32> a(32);
    video_add<<<1, 32>>>(a.p);
}
