// A matrix cut into pieces of rows, one a warp.
#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.h"

namespace lathe::cuda {

/// Threads of a block whose warps work on their own.
inline constexpr int kTileThreads = 256;
inline constexpr int kTileWarps = kTileThreads / kWarpSize;

/// Columns [begin, end) of one row; the warps past the last piece get row == rows.
struct WarpTile {
    int64_t row;
    int64_t begin;
    int64_t end;
};

/// This warp's piece of a [rows, columns] matrix in pieces of `width` columns.
__device__ __forceinline__ WarpTile warp_tile(int64_t rows, int64_t columns, int width) {
    const int64_t warp = static_cast<int64_t>(blockIdx.x) * kTileWarps + threadIdx.x / kWarpSize;
    const auto tiles = static_cast<uint32_t>((columns + width - 1) / width);
    // Below 2^31 for any matrix that fits a device.
    const uint32_t row = static_cast<uint32_t>(warp) / tiles;
    const int64_t begin = static_cast<int64_t>(static_cast<uint32_t>(warp) % tiles) * width;
    const int64_t end = begin + width;
    return {row < rows ? row : rows, begin, end < columns ? end : columns};
}

/// Blocks that give every piece a warp.
inline unsigned warp_tile_blocks(int64_t rows, int64_t columns, int width) {
    return static_cast<unsigned>(divide_up(rows * divide_up(columns, width), kTileWarps));
}

}  // namespace lathe::cuda
