// Embedding of tokens and learned positions: a warp a piece of a row.
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp_tile.h"

namespace lathe::cuda {
namespace {

/// Packs that a lane loads before it uses the first.
constexpr int kPacks = 4;

template <typename T>
constexpr int kTile = kPacks* kWarpSize* Pack<T>::kSize;

template <typename T>
struct Lookup {
    const int32_t* tokens;
    const T* token_table;
    const T* position_table;  ///< of the first position on; may be null
    T* y;
    int64_t rows;
    int64_t time;
    int64_t columns;
};

template <typename T>
__device__ __forceinline__ T added(T x, T position) {
    return from_float<T>(to_float(x) + to_float(position));
}

template <typename T>
__device__ __forceinline__ void copy_packs(const T* token, const T* position, T* y,
                                           const WarpTile& tile) {
    constexpr int kSize = Pack<T>::kSize;
    const int64_t begin = tile.begin + threadIdx.x % kWarpSize * kSize;
    Pack<T> packs[kPacks];
    Pack<T> positions[kPacks];
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
        const int64_t column = begin + i * kWarpSize * kSize;
        if (column < tile.end) {
            packs[i] = Pack<T>::load(token + column);
            if (position != nullptr) {
                positions[i] = Pack<T>::load(position + column);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
        const int64_t column = begin + i * kWarpSize * kSize;
        if (column < tile.end) {
#pragma unroll
            for (int j = 0; j < kSize && position != nullptr; ++j) {
                packs[i].values[j] = added(packs[i].values[j], positions[i].values[j]);
            }
            packs[i].store_global(y + column);
        }
    }
}

template <typename T>
__global__ void __launch_bounds__(kTileThreads, 1) embedding_kernel(Lookup<T> op, bool aligned) {
    const WarpTile tile = warp_tile(op.rows, op.columns, kTile<T>);
    if (tile.row == op.rows) {
        return;
    }
    const T* token = op.token_table + op.tokens[tile.row] * op.columns;
    const T* position = op.position_table == nullptr
                            ? nullptr
                            : op.position_table + tile.row % op.time * op.columns;
    T* y = op.y + tile.row * op.columns;
    if (aligned) {
        copy_packs(token, position, y, tile);
    } else {
        for (int64_t column = tile.begin + threadIdx.x % kWarpSize; column < tile.end;
             column += kWarpSize) {
            y[column] =
                position == nullptr ? token[column] : added(token[column], position[column]);
        }
    }
}

}  // namespace

void CudaBackend::execute(const Embedding& op, Stream stream) {
    if (op.y.size() == 0) {
        return;
    }
    for_compute_type(op.y.dtype(), [&](auto type) {
        using T = decltype(type);
        const int64_t columns = op.y.columns();
        const auto* positions = static_cast<const T*>(op.position_table.data());
        const Lookup<T> lookup = {
            .tokens = op.tokens.as<int32_t>(),
            .token_table = static_cast<const T*>(op.token_table.data()),
            .position_table =
                positions == nullptr ? nullptr : positions + op.first_position * columns,
            .y = static_cast<T*>(op.y.data()),
            .rows = op.tokens.size(),
            .time = op.tokens.columns(),
            .columns = columns,
        };
        const bool aligned = columns % Pack<T>::kSize == 0 &&
                             are_aligned(lookup.token_table, lookup.position_table, lookup.y);
        launch("Embedding", embedding_kernel<T>,
               {.blocks = warp_tile_blocks(lookup.rows, columns, kTile<T>),
                .threads = kTileThreads,
                .stream = this->stream(stream)},
               lookup, aligned);
    });
}

}  // namespace lathe::cuda
