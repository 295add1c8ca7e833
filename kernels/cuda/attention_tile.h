// The vocabulary of the tensor-core attention kernels: tiles of bf16 rows in shared memory, and
// products of a warp's rows with them. A warp's sums are float[row tiles of 16][column tiles of
// 8][4]; this lane's four of a tile are rows g and g + 8, columns 2t and 2t + 1 (ptx.h).
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/attention_arguments.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/reduce.h"

namespace lathe::cuda {

__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x) / kWarpSize; }
__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x) % kWarpSize; }
/// Row and column within a tile of 16 x 8 of this lane's element.
__device__ __forceinline__ int row_of(int element) { return lane_index() / 4 + element / 2 * 8; }
__device__ __forceinline__ int column_of(int element) { return lane_index() % 4 * 2 + element % 2; }

/// Reads fragments of a tile of kHead columns. The chunks of columns 16 k and 16 k + 8 are those of
/// columns 0 and 8, exclusive or 2 k: so are the addresses.
template <int kHead, bool kTransposed>
class Reader {
  public:
    /// `first`: what this lane reads of the fragment at row 0, column 0.
    __device__ __forceinline__ explicit Reader(const unsigned char* first)
        : first_(ptx::recomputed(ptx::shared_address(first))) {}

    /// The fragment at (row, column), multiples of 8 and 16.
    __device__ __forceinline__ void get(uint32_t (&fragment)[4], int row, int column) const {
        const uint32_t address =
            (first_ ^ static_cast<uint32_t>(2 * column)) + static_cast<uint32_t>(2 * kHead * row);
        if constexpr (kTransposed) {
            ptx::load_matrices_transposed(fragment, address);
        } else {
            ptx::load_matrices(fragment, address);
        }
    }

  private:
    uint32_t first_;
};

/// Rows of kHead bf16. Chunks of 16 bytes are permuted within each row by its number, so that the
/// same chunk of eight rows lies in eight different bank groups. `bytes` is a multiple of 256.
template <int kHead>
struct Tile {
    static constexpr int kRowBytes = kHead * 2;
    static constexpr int kChunks = kHead / 8;
    static_assert(kHead == 64 || kHead == 128);

    unsigned char* bytes;

    __device__ __forceinline__ Tile after(int rows) const { return {bytes + rows * kRowBytes}; }
    __device__ __forceinline__ unsigned char* chunk(int row, int index) const {
        return bytes + row * kRowBytes + ((index ^ (row % 8)) * 16);
    }

    /// Readers of 16 x 16 fragments: as left operands; as right operands (two tiles of 8), rows
    /// being columns of the product; and rows being the dimension that is summed over.
    __device__ __forceinline__ Reader<kHead, false> left() const {
        return Reader<kHead, false>(chunk(lane_index() % 16, lane_index() / 16));
    }
    __device__ __forceinline__ Reader<kHead, false> right_by_rows() const {
        const int lane = lane_index();
        return Reader<kHead, false>(chunk(lane % 8 + lane / 16 * 8, lane / 8 % 2));
    }
    __device__ __forceinline__ Reader<kHead, true> right() const {
        return Reader<kHead, true>(chunk(lane_index() % 16, lane_index() / 16));
    }
};

/// Starts to copy kRows rows of head_size columns; rows from num_rows on, and columns past the
/// head, become zeros. Done after the next wait for copies and a barrier.
template <int kRows, int kThreads, int kHead>
__device__ __forceinline__ void load_rows(Tile<kHead> tile, const Bf16* source, int64_t stride,
                                          int num_rows, const AttentionSizes& sizes) {
    constexpr int kChunks = Tile<kHead>::kChunks;
    constexpr int kRowsAtOnce = kThreads / kChunks;
    static_assert(kRows % kRowsAtOnce == 0);
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
    const int first_row = static_cast<int>(threadIdx.x) / kChunks;
    const int columns = sizes.head_size - 8 * chunk;
    const int64_t step = ptx::recomputed(kRowsAtOnce * stride);
    source += first_row * stride + 8 * chunk;
    if (sizes.is_aligned) {
#pragma unroll
        for (int i = 0; i < kRows; i += kRowsAtOnce) {
            const int row = first_row + i;
            ptx::copy_async_16(ptx::shared_address(tile.chunk(row, chunk)), source,
                               columns > 0 && row < num_rows);
            source += step;
        }
        return;
    }
#pragma unroll 1
    for (int row = first_row; row < kRows; row += kRowsAtOnce) {
        Pack<Bf16> pack;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            pack.values[i] = i < columns && row < num_rows ? source[i] : Bf16(0.0F);
        }
        pack.store(reinterpret_cast<Bf16*>(tile.chunk(row, chunk)));
        source += step;
    }
}

/// The same of two tensors' rows from `row` to before `end`, into one half of a stage each; commits
/// the copies.
template <int kRows, int kThreads, int kHead>
__device__ __forceinline__ void load_stage(Tile<kHead> stage, const HeadRows<const Bf16>& first,
                                           const HeadRows<const Bf16>& second, int64_t batch,
                                           int head, int row, int end,
                                           const AttentionSizes& sizes) {
    load_rows<kRows, kThreads>(stage, first.row(batch, head, row), first.row_stride, end - row,
                               sizes);
    load_rows<kRows, kThreads>(stage.after(kRows), second.row(batch, head, row), second.row_stride,
                               end - row, sizes);
    ptx::commit_copies();
}

/// Rounds a warp's sums and writes them to its rows of `tile` from `row` on, and from there the
/// first num_rows of them to global memory. Only this warp may use these rows of the tile.
template <int kRowTiles, int kHead>
__device__ __forceinline__ void store_rows(Tile<kHead> tile, int row,
                                           const float (&sums)[kRowTiles][kHead / 8][4],
                                           Bf16* destination, int64_t stride, int num_rows,
                                           const AttentionSizes& sizes) {
    constexpr int kChunks = Tile<kHead>::kChunks;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int n = 0; n < kChunks; ++n) {
#pragma unroll
            for (int e = 0; e < 4; e += 2) {
                *reinterpret_cast<__nv_bfloat162*>(tile.chunk(row + 16 * i + row_of(e), n) +
                                                   2 * column_of(e)) =
                    __floats2bfloat162_rn(sums[i][n][e], sums[i][n][e + 1]);
            }
        }
    }
    __syncwarp();
    for (int i = lane_index(); i < 16 * kRowTiles * kChunks; i += kWarpSize) {
        const int columns = sizes.head_size - i % kChunks * 8;
        if (i / kChunks >= num_rows || columns <= 0) {
            continue;
        }
        const auto pack = Pack<Bf16>::load(
            reinterpret_cast<const Bf16*>(tile.chunk(row + i / kChunks, i % kChunks)));
        Bf16* to = destination + i / kChunks * stride + i % kChunks * 8;
        if (sizes.is_aligned) {
            pack.store_global(to);
        } else {
#pragma unroll
            for (int c = 0; c < 8; ++c) {
                if (c < columns) {
                    to[c] = pack.values[c];
                }
            }
        }
    }
}

/// A warp's rows as left operands: read from a tile at each use ...
template <int kRowTiles, int kHead>
struct SharedRows {
    Tile<kHead> tile;  ///< begins with these rows

    __device__ __forceinline__ Reader<kHead, false> reader() const { return tile.left(); }
};

/// ... or held in registers.
template <int kRowTiles, int kHead>
struct HeldRows {
    uint32_t fragments[kRowTiles][kHead / 16][4];

    __device__ __forceinline__ explicit HeldRows(Tile<kHead> tile) {
        const auto reader = tile.left();
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
            for (int k = 0; k < kHead; k += 16) {
                reader.get(fragments[i][k / 16], 16 * i, k);
            }
        }
    }
    __device__ __forceinline__ const HeldRows& reader() const { return *this; }
    __device__ __forceinline__ void get(uint32_t (&fragment)[4], int row, int k) const {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            fragment[r] = fragments[row / 16][k / 16][r];
        }
    }
};

/// One or the other, of the rows with which `tile` begins. To be held they must have come: that
/// waits for the copies that were committed, and for the block.
template <bool kHeld, int kRowTiles, int kHead>
__device__ __forceinline__ auto own_rows(Tile<kHead> tile) {
    if constexpr (kHeld) {
        ptx::wait_copies<0>();
        __syncthreads();
        return HeldRows<kRowTiles, kHead>(tile);
    } else {
        return SharedRows<kRowTiles, kHead>{tile};
    }
}

/// products[row][column] = dot product of the warp's row and row `column` of b.
template <template <int, int> typename Rows, int kRowTiles, int kHead, int kColumnTiles>
__device__ __forceinline__ void dot_products(float (&products)[kRowTiles][kColumnTiles][4],
                                             const Rows<kRowTiles, kHead>& a, Tile<kHead> b) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                products[i][n][e] = 0.0F;
            }
        }
    }
    const auto& left_reader = a.reader();
    const auto right_reader = b.right_by_rows();
#pragma unroll
    for (int k = 0; k < kHead; k += 16) {
        uint32_t left[kRowTiles][4];
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
            left_reader.get(left[i], 16 * i, k);
        }
#pragma unroll
        for (int n = 0; n < kColumnTiles; n += 2) {
            uint32_t right[4];
            right_reader.get(right, 8 * n, k);
#pragma unroll
            for (int i = 0; i < kRowTiles; ++i) {
                ptx::multiply_accumulate(products[i][n], left[i], right[0], right[1]);
                ptx::multiply_accumulate(products[i][n + 1], left[i], right[2], right[3]);
            }
        }
    }
}

/// A head's bias of ALiBi. `slope` is for raw products, which the scale is still to meet.
struct HeadBias {
    bool exists;
    float slope;

    __device__ __forceinline__ HeadBias(const float* slopes, int head, const AttentionSizes& sizes)
        : exists(slopes != nullptr),
          slope(slopes != nullptr ? slopes[head] * sizes.inverse_scale : 0.0F) {}
};

/// Adds the bias to the scores of queries by keys (or keys by queries), and with `is_masked`
/// removes keys after their query. `distance`: the position of the first key less that of the first
/// query.
template <bool kByKeys, int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void bias_and_mask(float (&scores)[kRowTiles][kColumnTiles][4],
                                              int distance, const HeadBias& bias, bool is_masked) {
    if (!bias.exists && !is_masked) {
        return;
    }
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int row = 16 * i + row_of(e);
                const int column = 8 * n + column_of(e);
                const int ahead = distance + (kByKeys ? row - column : column - row);
                if (bias.exists) {
                    scores[i][n][e] = fmaf(bias.slope, static_cast<float>(ahead), scores[i][n][e]);
                }
                if (is_masked && ahead > 0) {
                    scores[i][n][e] = -INFINITY;
                }
            }
        }
    }
}

__device__ __forceinline__ uint32_t packed_bf16(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
}

/// sums[row] += sum over j of weights[row][j] (rounded to bf16) times row j of b.
template <int kRowTiles, int kWeightTiles, int kHead>
__device__ __forceinline__ void add_weighted(float (&sums)[kRowTiles][kHead / 8][4],
                                             const float (&weights)[kRowTiles][kWeightTiles][4],
                                             Tile<kHead> b) {
    const auto reader = b.right();
#pragma unroll
    for (int j = 0; j < kWeightTiles; j += 2) {
        // The sums of two neighbouring tiles lie as a left operand of 16 x 16 does.
        uint32_t left[kRowTiles][4];
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
            left[i][0] = packed_bf16(weights[i][j][0], weights[i][j][1]);
            left[i][1] = packed_bf16(weights[i][j][2], weights[i][j][3]);
            left[i][2] = packed_bf16(weights[i][j + 1][0], weights[i][j + 1][1]);
            left[i][3] = packed_bf16(weights[i][j + 1][2], weights[i][j + 1][3]);
        }
#pragma unroll
        for (int n = 0; n < kHead / 8; n += 2) {
            uint32_t right[4];
            reader.get(right, 8 * j, 8 * n);
#pragma unroll
            for (int i = 0; i < kRowTiles; ++i) {
                ptx::multiply_accumulate(sums[i][n], left[i], right[0], right[1]);
                ptx::multiply_accumulate(sums[i][n + 1], left[i], right[2], right[3]);
            }
        }
    }
}

}  // namespace lathe::cuda
