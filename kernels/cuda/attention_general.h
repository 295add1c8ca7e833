// The vocabulary of the attention kernels without tensor cores: tiles of floats in shared memory,
// and a thread's share of their products.
#pragma once

#include "kernels/cuda/attention_arguments.h"
#include "kernels/cuda/attention_shapes.h"
#include "kernels/cuda/reduce.h"

namespace lathe::cuda {

/// A block's threads form a grid of 16 columns: thread (row, column) has rows 4 row .. 4 row + 3 of
/// every product, and of scores each 16th column from its own on, of sums over the head four
/// columns out of each 64.
constexpr int kColumns = 16;
__device__ __forceinline__ int own_row() { return static_cast<int>(threadIdx.x) / kColumns * 4; }
__device__ __forceinline__ int own_column() { return static_cast<int>(threadIdx.x) % kColumns; }

/// What a thread moves at once.
template <typename T>
struct alignas(4 * sizeof(T)) Four {
    T values[4];
};

template <int kHead>
struct General : GeneralTile<kHead> {
    using Shape = GeneralTile<kHead>;
    using Shape::kRows, Shape::kStride, Shape::kWeightStride, Shape::kThreads;
    static constexpr int kScores = kRows / kColumns;  ///< a row, of a thread
    static constexpr int kSums = kHead / 64;          ///< a row, of a thread, four each

    float scores[4][kScores];

    /// Loads kRows rows of head_size columns; rows from num_rows on, and columns past the head,
    /// become zeros.
    template <typename T>
    __device__ static void load(float* tile, const T* source, int64_t stride, int num_rows,
                                const AttentionSizes& sizes) {
        constexpr int kFours = kHead / 4;
        for (int i = static_cast<int>(threadIdx.x); i < kRows * kFours; i += kThreads) {
            const int row = i / kFours;
            const int column = i % kFours * 4;
            const T* from = source + row * stride + column;
            Four<T> four;
            if (sizes.is_aligned && row < num_rows && column < sizes.head_size) {
                four = *reinterpret_cast<const Four<T>*>(from);
            } else {
#pragma unroll
                for (int c = 0; c < 4; ++c) {
                    four.values[c] =
                        row < num_rows && column + c < sizes.head_size ? from[c] : T(0.0F);
                }
            }
            *reinterpret_cast<float4*>(tile + row * kStride + column) =
                make_float4(to_float(four.values[0]), to_float(four.values[1]),
                            to_float(four.values[2]), to_float(four.values[3]));
        }
    }

    /// Dot products of the rows of two tiles.
    __device__ static void dot_products(float (&products)[4][kScores], const float* a,
                                        const float* b) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int j = 0; j < kScores; ++j) {
                products[i][j] = 0.0F;
            }
        }
        a += own_row() * kStride;
        b += own_column() * kStride;
#pragma unroll 4
        for (int k = 0; k < kHead; k += 4) {
            float4 left[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                left[i] = *reinterpret_cast<const float4*>(a + i * kStride + k);
            }
#pragma unroll
            for (int j = 0; j < kScores; ++j) {
                const float4 right =
                    *reinterpret_cast<const float4*>(b + kColumns * j * kStride + k);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    products[i][j] = fmaf(left[i].x, right.x, products[i][j]);
                    products[i][j] = fmaf(left[i].y, right.y, products[i][j]);
                    products[i][j] = fmaf(left[i].z, right.z, products[i][j]);
                    products[i][j] = fmaf(left[i].w, right.w, products[i][j]);
                }
            }
        }
    }

    /// sums[row] += weights[row][j] times row j of b. The weights pass through `shared`, where rows
    /// are written and read by the same half of a warp.
    __device__ static void add_weighted(float (&sums)[4][kSums][4],
                                        const float (&weights)[4][kScores], float* shared,
                                        const float* b) {
        float* own = shared + own_row() * kWeightStride;
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int j = 0; j < kScores; ++j) {
                own[i * kWeightStride + kColumns * j + own_column()] = weights[i][j];
            }
        }
        __syncwarp();
        b += 4 * own_column();
#pragma unroll 1
        for (int j = 0; j < kRows; j += 4) {
            float left[4][4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float4 pack = *reinterpret_cast<const float4*>(own + i * kWeightStride + j);
                left[i][0] = pack.x;
                left[i][1] = pack.y;
                left[i][2] = pack.z;
                left[i][3] = pack.w;
            }
#pragma unroll
            for (int k = 0; k < 4; ++k) {
#pragma unroll
                for (int n = 0; n < kSums; ++n) {
                    const float4 right =
                        *reinterpret_cast<const float4*>(b + (j + k) * kStride + 64 * n);
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        sums[i][n][0] = fmaf(left[i][k], right.x, sums[i][n][0]);
                        sums[i][n][1] = fmaf(left[i][k], right.y, sums[i][n][1]);
                        sums[i][n][2] = fmaf(left[i][k], right.z, sums[i][n][2]);
                        sums[i][n][3] = fmaf(left[i][k], right.w, sums[i][n][3]);
                    }
                }
            }
        }
    }

    /// Writes factor[row] sums[row] as row `row`, those before num_rows.
    template <typename T>
    __device__ static void store(const float (&sums)[4][kSums][4], const float (&factor)[4],
                                 T* destination, int64_t stride, int num_rows,
                                 const AttentionSizes& sizes) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            T* row = destination + (own_row() + i) * stride;
#pragma unroll
            for (int n = 0; n < kSums; ++n) {
                const int column = 64 * n + 4 * own_column();
                Four<T> four;
#pragma unroll
                for (int c = 0; c < 4; ++c) {
                    four.values[c] = from_float<T>(factor[i] * sums[i][n][c]);
                }
                if (own_row() + i >= num_rows) {
                    continue;
                }
                if (sizes.is_aligned && column < sizes.head_size) {
                    *reinterpret_cast<Four<T>*>(row + column) = four;
                    continue;
                }
#pragma unroll
                for (int c = 0; c < 4; ++c) {
                    if (column + c < sizes.head_size) {
                        row[column + c] = four.values[c];
                    }
                }
            }
        }
    }
};

/// The same number for every lane of a thread row.
__device__ __forceinline__ float row_max(float x) {
#pragma unroll
    for (int offset = kColumns / 2; offset > 0; offset /= 2) {
        x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, offset));
    }
    return x;
}
__device__ __forceinline__ float row_sum(float x) {
#pragma unroll
    for (int offset = kColumns / 2; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(kFullWarp, x, offset);
    }
    return x;
}

}  // namespace lathe::cuda
