// Element types on the device, and 16-byte packs of them.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace lathe::cuda {

using Bf16 = __nv_bfloat16;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(Bf16 x) { return __bfloat162float(x); }

/// Rounds to nearest even.
template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <>
__device__ __forceinline__ Bf16 from_float<Bf16>(float x) {
    return __float2bfloat16_rn(x);
}

/// What one 16-byte access moves: memory-bound kernels read and write nothing else where rows are
/// aligned.
template <typename T>
struct alignas(16) Pack {
    static constexpr int kSize = 16 / sizeof(T);
    T values[kSize];

    __device__ __forceinline__ static Pack load(const T* address) {
        return *reinterpret_cast<const Pack*>(address);
    }
    __device__ __forceinline__ void store(T* address) const {
        *reinterpret_cast<Pack*>(address) = *this;
    }
};

/// Whether all of these addresses are multiples of 16 bytes. Absent tensors (null) are.
template <typename... Pointers>
bool are_aligned(Pointers... pointers) {
    return (((reinterpret_cast<uintptr_t>(pointers) % 16) == 0) && ...);
}

}  // namespace lathe::cuda
