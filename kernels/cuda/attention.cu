// Attention forward on tensor cores, after FlashAttention-2 (arXiv 2307.08691): a block takes 128
// queries of one head through all keys that they see, with the softmax's maximum, sum and weighted
// values in registers. The next keys and values are on their way while these are used. Scores are
// powers of two: exp(scale s) is 2^(scale log2(e) s), one multiply-add before it.
#include <cmath>

#include "kernels/cuda/attention_shapes.h"
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"

namespace lathe::cuda {
namespace {

/// The softmax of a warp's rows so far. This lane has rows g and g + 8 of each tile; `sum` is over
/// its own columns alone until finish.
template <int kRowTiles, int kHead>
struct OnlineSoftmax {
    float maximum[kRowTiles][2];
    float sum[kRowTiles][2];
    float y[kRowTiles][kHead / 8][4];

    __device__ __forceinline__ OnlineSoftmax() {
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                maximum[i][r] = -INFINITY;
                sum[i][r] = 0.0F;
            }
#pragma unroll
            for (int n = 0; n < kHead / 8; ++n) {
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    y[i][n][e] = 0.0F;
                }
            }
        }
    }

    /// Turns scores into probabilities relative to the new maximum, and what was summed with them.
    template <int kColumnTiles>
    __device__ __forceinline__ void update(float (&scores)[kRowTiles][kColumnTiles][4],
                                           float scale_log2) {
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                float largest = maximum[i][r];
#pragma unroll
                for (int n = 0; n < kColumnTiles; ++n) {
                    largest = fmaxf(largest, fmaxf(scores[i][n][2 * r], scores[i][n][2 * r + 1]));
                }
                largest = fmaxf(largest, __shfl_xor_sync(kFullWarp, largest, 1));
                largest = fmaxf(largest, __shfl_xor_sync(kFullWarp, largest, 2));
                const float correction = ptx::exp2_flushed((maximum[i][r] - largest) * scale_log2);
                const bool is_same = maximum[i][r] == largest;
                maximum[i][r] = largest;
                const float shift = -largest * scale_log2;
                float added = 0.0F;
#pragma unroll
                for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
                    for (int c = 2 * r; c < 2 * r + 2; ++c) {
                        scores[i][n][c] =
                            ptx::exp2_flushed(fmaf(scores[i][n][c], scale_log2, shift));
                        added += scores[i][n][c];
                    }
                }
                sum[i][r] = fmaf(sum[i][r], correction, added);
                if (!__all_sync(kFullWarp, is_same)) {  // rarely, after the first steps
#pragma unroll
                    for (int n = 0; n < kHead / 8; ++n) {
                        y[i][n][2 * r] *= correction;
                        y[i][n][2 * r + 1] *= correction;
                    }
                }
            }
        }
    }

    /// Divides by the sums, and leaves each row's log of its denominator in `maximum`.
    __device__ __forceinline__ void finish(float scale) {
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                float total = sum[i][r];
                total += __shfl_xor_sync(kFullWarp, total, 1);
                total += __shfl_xor_sync(kFullWarp, total, 2);
                const float inverse = 1.0F / total;
#pragma unroll
                for (int n = 0; n < kHead / 8; ++n) {
                    y[i][n][2 * r] *= inverse;
                    y[i][n][2 * r + 1] *= inverse;
                }
                maximum[i][r] = fmaf(maximum[i][r], scale, logf(total));
            }
        }
    }
};

/// log_sum_exp of a warp's rows from `row` on; source and destination are one head's.
template <int kRowTiles>
__device__ __forceinline__ void store_statistics(const float (&statistics)[kRowTiles][2],
                                                 float* destination, int row, int time) {
    if (lane_index() % 4 != 0) {
        return;  // four lanes share a row
    }
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int t = row + 16 * i + row_of(2 * r);
            if (t < time) {
                destination[t] = statistics[i][r];
            }
        }
    }
}

template <int kHead>
__global__ void __launch_bounds__(ForwardTile<kHead>::kThreads)
    attend(const __grid_constant__ ForwardArguments<Bf16> args) {
    using Shape = ForwardTile<kHead>;
    constexpr int kKeys = Shape::kKeys;
    extern __shared__ __align__(256) unsigned char shared[];
    const Tile<kHead> queries{shared};
    const Tile<kHead> ring = queries.after(Shape::kRows);

    const AttentionSizes& sizes = args.sizes;
    const OwnedQueries<Shape::kRows> at(sizes);
    const int num_keys = args.first_position + min(sizes.time, at.first_row + Shape::kRows);
    const int warp_row = warp_index() * Shape::kWarpRows;
    const int first_position = args.first_position + at.first_row + warp_row;
    const int last_position = first_position + Shape::kWarpRows - 1;
    const HeadBias bias(args.slopes, at.head, sizes);

    const auto stage_of = [&](int key) { return ring.after(key / kKeys % 2 * 2 * kKeys); };
    const auto load = [&](int key) {
        load_stage<kKeys, Shape::kThreads>(stage_of(key), args.keys, args.values, at.batch,
                                           at.kv_head, key, num_keys, sizes);
    };
    load_rows<Shape::kRows, Shape::kThreads>(queries,
                                             args.queries.row(at.batch, at.head, at.first_row),
                                             args.queries.row_stride, at.num_rows, sizes);
    load(0);
    const auto own_queries =
        own_rows<Shape::kHoldQueries, Shape::kRowTiles>(queries.after(warp_row));
    OnlineSoftmax<Shape::kRowTiles, kHead> softmax;
    for (int key = 0; key < num_keys; key += kKeys) {
        ptx::wait_copies<0>();
        __syncthreads();  // this stage is there, and the other one has been used
        if (key + kKeys < num_keys) {
            load(key + kKeys);
        }
        if (key > last_position || warp_row >= at.num_rows) {
            continue;  // all after the warp's queries
        }
        const Tile<kHead> keys = stage_of(key);
        float scores[Shape::kRowTiles][kKeys / 8][4];
        dot_products(scores, own_queries, keys);
        bias_and_mask<false>(scores, key - first_position, bias, key + kKeys - 1 > first_position);
        softmax.update(scores, sizes.scale_log2);
        add_weighted(softmax.y, scores, keys.after(kKeys));
    }

    softmax.finish(sizes.scale);
    const int row = at.first_row + warp_row;
    store_rows(queries, warp_row, softmax.y, args.y.row(at.batch, at.head, row), args.y.row_stride,
               at.num_rows - warp_row, sizes);
    if (args.log_sum_exp != nullptr) {
        store_statistics(softmax.maximum,
                         args.log_sum_exp + (at.batch * sizes.heads + at.head) * sizes.time, row,
                         sizes.time);
    }
}

template <int kHead>
void launch_tensor_cores(const ForwardArguments<Bf16>& args, cudaStream_t stream) {
    using Shape = ForwardTile<kHead>;
    const AttentionSizes& sizes = args.sizes;
    launch("Attention", attend<kHead>,
           {.blocks = dim3(static_cast<unsigned>(sizes.batch * sizes.heads),
                           static_cast<unsigned>(divide_up(sizes.time, Shape::kRows))),
            .threads = dim3(Shape::kThreads),
            .shared_bytes = Shape::kSharedBytes,
            .stream = stream},
           args);
}

}  // namespace

template <>
void launch_forward(const ForwardArguments<float>& args, cudaStream_t stream) {
    launch_general_forward(args, stream);
}

template <>
void launch_forward(const ForwardArguments<Bf16>& args, cudaStream_t stream) {
    if (args.sizes.head_size > kLargestTensorCoreHead) {
        launch_general_forward(args, stream);
    } else if (args.sizes.head_size > 64) {
        launch_tensor_cores<128>(args, stream);
    } else {
        launch_tensor_cores<64>(args, stream);
    }
}

void CudaBackend::execute(const Attention& op, Stream stream) {
    if (op.qkv.size() == 0) {
        return;
    }
    for_compute_type(op.qkv.dtype(), [&]<typename T>(T) {
        const auto [heads, kv_heads, head_size] = op.heads;
        const bool is_aligned = are_aligned(op.qkv.data(), op.y.data());
        launch_forward(
            ForwardArguments<T>{.sizes = AttentionSizes(op.heads, op.qkv, is_aligned),
                                .queries = packed_rows<const T>(op.qkv, head_size, 0),
                                .keys = packed_rows<const T>(op.qkv, head_size, heads),
                                .values = packed_rows<const T>(op.qkv, head_size, heads + kv_heads),
                                .y = packed_rows<T>(op.y, head_size, 0),
                                .log_sum_exp = op.log_sum_exp.as<float>(),
                                .slopes = op.slopes ? op.slopes.as<float>() : nullptr,
                                .first_position = 0},
            this->stream(stream));
    });
}

}  // namespace lathe::cuda
