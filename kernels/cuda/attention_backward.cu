// Gradient of Attention on tensor cores. Two kernels, no atomics, no order that depends on
// scheduling: one block owns 128 keys and walks through the queries that see them, head by head of
// the group, for d_k and d_v; another owns 128 queries and walks through the keys that they see,
// for d_q. Both compute the scores anew: 7 products instead of the 5 of one kernel that adds its
// d_q to memory, which needs either float atomics or blocks that wait for each other in order, and
// a d_q in f32.
//
// The rows that a block owns are the rows of the products in both kernels (keys by queries in the
// first), so that a warp's probabilities and their gradients are left operands as they lie in its
// registers, and never pass through shared memory.
#include "kernels/cuda/attention_shapes.h"
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"

namespace lathe::cuda {
namespace {

template <int kRowTiles, int kColumnTiles>
using Sums = float[kRowTiles][kColumnTiles][4];

template <int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void set_zero(Sums<kRowTiles, kColumnTiles>& sums) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                sums[i][n][e] = 0.0F;
            }
        }
    }
}

template <int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void scale_by(Sums<kRowTiles, kColumnTiles>& sums, float factor) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                sums[i][n][e] *= factor;
            }
        }
    }
}

/// The warp's 16 kRowTiles keys by one stage of queries: turns scores into probabilities and d_p
/// into the gradient of the scores (before their scale).
template <int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void differentiate_by_keys(Sums<kRowTiles, kColumnTiles>& scores,
                                                      Sums<kRowTiles, kColumnTiles>& d_p,
                                                      float scale_log2, const float* log_sum_exp,
                                                      const float* delta) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
        const int column = 8 * n + column_of(0);
        const float2 denominators = *reinterpret_cast<const float2*>(log_sum_exp + column);
        const float2 deltas = *reinterpret_cast<const float2*>(delta + column);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const float shift = (e % 2 == 0 ? denominators.x : denominators.y) * -kLog2E;
            const float subtracted = e % 2 == 0 ? deltas.x : deltas.y;
#pragma unroll
            for (int i = 0; i < kRowTiles; ++i) {
                scores[i][n][e] = ptx::exp2_flushed(fmaf(scores[i][n][e], scale_log2, shift));
                d_p[i][n][e] = scores[i][n][e] * (d_p[i][n][e] - subtracted);
            }
        }
    }
}

/// This lane's rows of [time] values: g and g + 8 of each tile; 0 past the end.
template <int kRowTiles>
struct RowValues {
    float values[kRowTiles][2];

    __device__ __forceinline__ RowValues(const float* source, int first_row, int time) {
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int row = first_row + 16 * i + row_of(2 * r);
                values[i][r] = row < time ? source[row] : 0.0F;
            }
        }
    }
};

/// The warp's 16 kRowTiles queries by one stage of keys: turns d_p into the gradient of the scores
/// (before their scale).
template <int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void differentiate_by_queries(
    const Sums<kRowTiles, kColumnTiles>& scores, Sums<kRowTiles, kColumnTiles>& d_p,
    float scale_log2, const RowValues<kRowTiles>& log_sum_exp, const RowValues<kRowTiles>& delta) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const float shift = log_sum_exp.values[i][e / 2] * -kLog2E;
#pragma unroll
            for (int n = 0; n < kColumnTiles; ++n) {
                const float p = ptx::exp2_flushed(fmaf(scores[i][n][e], scale_log2, shift));
                d_p[i][n][e] = p * (d_p[i][n][e] - delta.values[i][e / 2]);
            }
        }
    }
}

/// Starts to copy log_sum_exp and delta of kQueries queries, one after the other.
template <int kQueries>
__device__ __forceinline__ void load_statistics(float* shared, const BackwardArguments<Bf16>& args,
                                                int64_t batch, int head, int query) {
    const int lane = static_cast<int>(threadIdx.x);
    if (lane < 2 * kQueries) {
        const int t = query + lane % kQueries;
        const float* source = lane < kQueries ? args.log_sum_exp : args.delta;
        ptx::copy_async_4(ptx::shared_address(shared + lane),
                          source + (batch * args.sizes.heads + head) * args.sizes.time + t,
                          t < args.sizes.time);
    }
}

/// The steps over a group's queries: kQueries at a time from the block's first key on, of each head
/// in turn.
template <int kQueries>
struct GroupWalk {
    int head;
    int query;
    int step = 0;

    __device__ __forceinline__ void advance(int first_query, int time) {
        ++step;
        query += kQueries;
        if (query >= time) {
            query = first_query;
            ++head;
        }
    }
};

template <int kHead>
__global__ void __launch_bounds__(BackwardTile<kHead>::kThreads)
    differentiate_keys(const __grid_constant__ BackwardArguments<Bf16> args) {
    using Shape = BackwardTile<kHead>;
    using Walk = GroupWalk<Shape::kQueries>;
    constexpr int kQueries = Shape::kQueries;
    constexpr int kRowTiles = Shape::kRowTiles;
    extern __shared__ __align__(256) unsigned char shared[];
    const Tile<kHead> values{shared};
    const Tile<kHead> ring = values.after(Shape::kRows);
    const Tile<kHead> after_ring = ring.after(Shape::kQueryRingRows);
    const Tile<kHead> keys = Shape::kHoldKeys ? ring : after_ring;
    auto* statistics =
        reinterpret_cast<float*>((Shape::kHoldKeys ? after_ring : keys.after(Shape::kRows)).bytes);

    const AttentionSizes& sizes = args.sizes;
    const OwnedKeys<Shape::kRows> at(sizes);
    const int warp_row = warp_index() * Shape::kWarpRows;
    const int row = at.first_row + warp_row;
    load_rows<Shape::kRows, Shape::kThreads>(values,
                                             args.values.row(at.batch, at.kv_head, at.first_row),
                                             args.values.row_stride, at.num_rows, sizes);
    load_rows<Shape::kRows, Shape::kThreads>(keys,
                                             args.keys.row(at.batch, at.kv_head, at.first_row),
                                             args.keys.row_stride, at.num_rows, sizes);
    ptx::commit_copies();
    const auto own_keys = own_rows<Shape::kHoldKeys, kRowTiles>(keys.after(warp_row));
    const SharedRows<kRowTiles, kHead> own_values{values.after(warp_row)};
    if constexpr (Shape::kHoldKeys) {
        __syncthreads();  // the keys left the ring
    }

    const auto load = [&](const Walk& walk) {
        load_statistics<kQueries>(statistics + walk.step % 2 * 2 * kQueries, args, at.batch,
                                  walk.head, walk.query);
        load_stage<kQueries, Shape::kThreads>(ring.after(walk.step % 2 * 2 * kQueries),
                                              args.queries, args.d_y, at.batch, walk.head,
                                              walk.query, sizes.time, sizes);
    };
    const int end_head = (at.kv_head + 1) * sizes.group;
    Walk next = {at.kv_head * sizes.group, at.first_row};
    load(next);
    Sums<kRowTiles, kHead / 8> d_keys;
    Sums<kRowTiles, kHead / 8> d_values;
    set_zero<kRowTiles, kHead / 8>(d_keys);
    set_zero<kRowTiles, kHead / 8>(d_values);
    while (next.head < end_head) {
        ptx::wait_copies<0>();
        __syncthreads();  // this stage is there, and the other one has been used
        const Walk walk = next;
        next.advance(at.first_row, sizes.time);
        if (next.head < end_head) {
            load(next);
        }
        if (walk.query + kQueries <= row || warp_row >= at.num_rows) {
            continue;  // all before the warp's keys
        }
        const Tile<kHead> queries = ring.after(walk.step % 2 * 2 * kQueries);
        const Tile<kHead> d_y = queries.after(kQueries);
        Sums<kRowTiles, kQueries / 8> scores;
        Sums<kRowTiles, kQueries / 8> d_scores;
        dot_products(scores, own_keys, queries);
        dot_products(d_scores, own_values, d_y);
        bias_and_mask<true>(scores, row - walk.query, HeadBias(args.slopes, walk.head, sizes),
                            row + Shape::kWarpRows - 1 > walk.query);
        const float* log_sum_exp = statistics + walk.step % 2 * 2 * kQueries;
        differentiate_by_keys<kRowTiles, kQueries / 8>(scores, d_scores, sizes.scale_log2,
                                                       log_sum_exp, log_sum_exp + kQueries);
        add_weighted(d_values, scores, d_y);
        add_weighted(d_keys, d_scores, queries);
    }

    scale_by<kRowTiles, kHead / 8>(d_keys, sizes.scale);
    store_rows(values, warp_row, d_keys, args.d_keys.row(at.batch, at.kv_head, row),
               args.d_keys.row_stride, at.num_rows - warp_row, sizes);
    store_rows(values, warp_row, d_values, args.d_values.row(at.batch, at.kv_head, row),
               args.d_values.row_stride, at.num_rows - warp_row, sizes);
}

template <int kHead>
__global__ void __launch_bounds__(BackwardTile<kHead>::kThreads)
    differentiate_queries(const __grid_constant__ BackwardArguments<Bf16> args) {
    using Shape = BackwardTile<kHead>;
    constexpr int kKeys = Shape::kKeys;
    constexpr int kRowTiles = Shape::kRowTiles;
    extern __shared__ __align__(256) unsigned char shared[];
    const Tile<kHead> ring{shared};

    const AttentionSizes& sizes = args.sizes;
    const OwnedQueries<Shape::kRows> at(sizes);
    const int num_keys = min(sizes.time, at.first_row + Shape::kRows);
    const int warp_row = warp_index() * Shape::kWarpRows;
    const int row = at.first_row + warp_row;
    load_stage<Shape::kRows, Shape::kThreads>(ring, args.queries, args.d_y, at.batch, at.head,
                                              at.first_row, sizes.time, sizes);
    const int64_t statistics = (at.batch * sizes.heads + at.head) * sizes.time;
    const RowValues<kRowTiles> log_sum_exp(args.log_sum_exp + statistics, row, sizes.time);
    const RowValues<kRowTiles> delta(args.delta + statistics, row, sizes.time);
    const HeadBias bias(args.slopes, at.head, sizes);
    ptx::wait_copies<0>();
    __syncthreads();
    const HeldRows<kRowTiles, kHead> queries(ring.after(warp_row));
    const HeldRows<kRowTiles, kHead> d_y(ring.after(Shape::kRows + warp_row));
    __syncthreads();  // they left the ring

    const auto stage_of = [&](int key) { return ring.after(key / kKeys % 2 * 2 * kKeys); };
    const auto load = [&](int key) {
        load_stage<kKeys, Shape::kThreads>(stage_of(key), args.keys, args.values, at.batch,
                                           at.kv_head, key, num_keys, sizes);
    };
    load(0);
    Sums<kRowTiles, kHead / 8> d_queries;
    set_zero<kRowTiles, kHead / 8>(d_queries);
    for (int key = 0; key < num_keys; key += kKeys) {
        ptx::wait_copies<0>();
        __syncthreads();  // this stage is there, and the other one has been used
        if (key + kKeys < num_keys) {
            load(key + kKeys);
        }
        if (key >= row + Shape::kWarpRows || warp_row >= at.num_rows) {
            continue;  // all after the warp's queries
        }
        const Tile<kHead> keys = stage_of(key);
        Sums<kRowTiles, kKeys / 8> scores;
        Sums<kRowTiles, kKeys / 8> d_scores;
        dot_products(scores, queries, keys);
        dot_products(d_scores, d_y, keys.after(kKeys));
        bias_and_mask<false>(scores, key - row, bias, key + kKeys - 1 > row);
        differentiate_by_queries<kRowTiles, kKeys / 8>(scores, d_scores, sizes.scale_log2,
                                                       log_sum_exp, delta);
        add_weighted(d_queries, d_scores, keys);
    }

    __syncthreads();  // the ring has been used
    scale_by<kRowTiles, kHead / 8>(d_queries, sizes.scale);
    store_rows(ring, warp_row, d_queries, args.d_queries.row(at.batch, at.head, row),
               args.d_queries.row_stride, at.num_rows - warp_row, sizes);
}

constexpr int kDeltaThreads = 256;
constexpr int kDeltaLanes = 8;  ///< that share a row
constexpr int kDeltaRows = kDeltaThreads / kDeltaLanes;

/// delta[b, h, t] = d_y . y, a block for kDeltaRows rows of one head.
template <typename T>
__global__ void __launch_bounds__(kDeltaThreads)
    dot_rows(const HeadRows<const T> d_y, const HeadRows<const T> y, float* delta,
             const __grid_constant__ AttentionSizes sizes) {
    const int head = static_cast<int>(blockIdx.x) % sizes.heads;
    const int64_t batch = static_cast<int>(blockIdx.x) / sizes.heads;
    const int lane = static_cast<int>(threadIdx.x) % kDeltaLanes;
    const int t =
        static_cast<int>(blockIdx.y) * kDeltaRows + static_cast<int>(threadIdx.x) / kDeltaLanes;
    float sum = 0.0F;
    if (t < sizes.time) {
        const T* a = d_y.row(batch, head, t);
        const T* b = y.row(batch, head, t);
        if (sizes.is_aligned) {
            constexpr int kSize = Pack<T>::kSize;
            for (int i = lane * kSize; i < sizes.head_size; i += kDeltaLanes * kSize) {
                const auto left = Pack<T>::load(a + i);
                const auto right = Pack<T>::load(b + i);
#pragma unroll
                for (int c = 0; c < kSize; ++c) {
                    sum = fmaf(to_float(left.values[c]), to_float(right.values[c]), sum);
                }
            }
        } else {
            for (int i = lane; i < sizes.head_size; i += kDeltaLanes) {
                sum = fmaf(to_float(a[i]), to_float(b[i]), sum);
            }
        }
    }
#pragma unroll
    for (int offset = kDeltaLanes / 2; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(kFullWarp, sum, offset);
    }
    if (lane == 0 && t < sizes.time) {
        delta[(batch * sizes.heads + head) * sizes.time + t] = sum;
    }
}

template <int kHead>
void launch_tensor_cores(const BackwardArguments<Bf16>& args, cudaStream_t stream) {
    using Shape = BackwardTile<kHead>;
    const AttentionSizes& sizes = args.sizes;
    const auto blocks = static_cast<unsigned>(divide_up(sizes.time, Shape::kRows));
    launch("AttentionBackward", differentiate_keys<kHead>,
           {.blocks = dim3(static_cast<unsigned>(sizes.batch * sizes.kv_heads), blocks),
            .threads = dim3(Shape::kThreads),
            .shared_bytes = Shape::kKeysSharedBytes,
            .stream = stream},
           args);
    launch("AttentionBackward", differentiate_queries<kHead>,
           {.blocks = dim3(static_cast<unsigned>(sizes.batch * sizes.heads), blocks),
            .threads = dim3(Shape::kThreads),
            .shared_bytes = Shape::kQueriesSharedBytes,
            .stream = stream},
           args);
}

void launch_backward(const BackwardArguments<float>& args, cudaStream_t stream) {
    launch_general_backward(args, stream);
}

void launch_backward(const BackwardArguments<Bf16>& args, cudaStream_t stream) {
    if (args.sizes.head_size > kLargestTensorCoreHead) {
        launch_general_backward(args, stream);
    } else if (args.sizes.head_size > 64) {
        launch_tensor_cores<128>(args, stream);
    } else {
        launch_tensor_cores<64>(args, stream);
    }
}

}  // namespace

void CudaBackend::execute(const AttentionBackward& op, Stream stream) {
    if (op.qkv.size() == 0) {
        return;
    }
    for_compute_type(op.qkv.dtype(), [&]<typename T>(T) {
        const auto [heads, kv_heads, head_size] = op.heads;
        const AttentionSizes sizes(
            op.heads, op.qkv,
            are_aligned(op.qkv.data(), op.y.data(), op.d_y.data(), op.d_qkv.data()));
        auto* delta = static_cast<float*>(op.workspace.data());
        const auto d_y = packed_rows<const T>(op.d_y, head_size, 0);
        launch("AttentionBackward", dot_rows<T>,
               {.blocks = dim3(static_cast<unsigned>(sizes.batch * sizes.heads),
                               static_cast<unsigned>(divide_up(sizes.time, kDeltaRows))),
                .threads = dim3(kDeltaThreads),
                .stream = this->stream(stream)},
               d_y, packed_rows<const T>(op.y, head_size, 0), delta, sizes);
        launch_backward(
            BackwardArguments<T>{
                .sizes = sizes,
                .queries = packed_rows<const T>(op.qkv, head_size, 0),
                .keys = packed_rows<const T>(op.qkv, head_size, heads),
                .values = packed_rows<const T>(op.qkv, head_size, heads + kv_heads),
                .d_y = d_y,
                .d_queries = packed_rows<T>(op.d_qkv, head_size, 0),
                .d_keys = packed_rows<T>(op.d_qkv, head_size, heads),
                .d_values = packed_rows<T>(op.d_qkv, head_size, heads + kv_heads),
                .log_sum_exp = op.log_sum_exp.as<float>(),
                .delta = delta,
                .slopes = op.slopes ? op.slopes.as<float>() : nullptr},
            this->stream(stream));
    });
}

}  // namespace lathe::cuda
