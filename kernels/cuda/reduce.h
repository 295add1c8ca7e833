// Sums and maxima over a warp and over a block, in a fixed order: the same bits on every run.
#pragma once

#include <cstdint>

namespace lathe::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarp = 0xffffffffU;

/// Every lane receives the warp's sum, added as a butterfly.
template <typename T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
    for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(kFullWarp, x, offset);
    }
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
        x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, offset));
    }
    return x;
}

/// Every thread of a block of kThreads (a multiple of 32) receives the block's sum: warps, then
/// their sums left to right. `scratch` is shared memory of kThreads / 32 elements; it may be used
/// again after the call without a barrier only for another block_sum.
template <int kThreads, typename T>
__device__ __forceinline__ T block_sum(T x, T* scratch) {
    constexpr int kWarps = kThreads / kWarpSize;
    x = warp_sum(x);
    if constexpr (kWarps > 1) {
        __syncthreads();  // what an earlier call left is read by all
        if (threadIdx.x % kWarpSize == 0) {
            scratch[threadIdx.x / kWarpSize] = x;
        }
        __syncthreads();
        x = scratch[0];
#pragma unroll
        for (int warp = 1; warp < kWarps; ++warp) {
            x += scratch[warp];
        }
    }
    return x;
}

}  // namespace lathe::cuda
