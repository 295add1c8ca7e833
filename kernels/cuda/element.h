// Element types on the device, and 16-byte packs of them.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"

namespace lathe {

template <>
inline constexpr DType dtype_of<__nv_bfloat16> = DType::bf16;

}  // namespace lathe

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
    /// To global memory, certainly by one access: nvcc may split the plain store of a pack that was
    /// made element by element.
    __device__ __forceinline__ void store_global(T* address) const {
        uint4 bits;
        memcpy(&bits, values, sizeof(bits));
        __stwb(reinterpret_cast<uint4*>(address), bits);
    }
};

/// The first `count` elements of a pack, zeros past them. kAligned: all of them, by one access.
template <bool kAligned, typename T>
__device__ __forceinline__ Pack<T> load_pack(const T* address, int count) {
    if constexpr (kAligned) {
        return Pack<T>::load(address);
    } else {
        Pack<T> pack{};
#pragma unroll
        for (int i = 0; i < Pack<T>::kSize; ++i) {
            if (i < count) {
                pack.values[i] = address[i];
            }
        }
        return pack;
    }
}
template <bool kAligned, typename T>
__device__ __forceinline__ void store_pack(T* address, int count, const Pack<T>& pack) {
    if constexpr (kAligned) {
        pack.store_global(address);
    } else {
#pragma unroll
        for (int i = 0; i < Pack<T>::kSize; ++i) {
            if (i < count) {
                address[i] = pack.values[i];
            }
        }
    }
}

/// Whether all of these addresses are multiples of 16 bytes. Absent tensors (null) are.
template <typename... Pointers>
bool are_aligned(Pointers... pointers) {
    return (((reinterpret_cast<uintptr_t>(pointers) % 16) == 0) && ...);
}

}  // namespace lathe::cuda
