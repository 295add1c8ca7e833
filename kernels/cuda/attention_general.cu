// Attention and its gradient in plain f32 arithmetic: for f32, and for heads too large for the
// tensor-core kernels. The same walks over tiles, online softmax and order of sums as there; tiles
// are kept as floats, and probabilities pass through shared memory on their way to a product.
#include <cmath>

#include "kernels/cuda/attention_general.h"
#include "kernels/cuda/launch.h"

namespace lathe::cuda {
namespace {

/// Score times log2(e), with its bias. `ahead`: the key's position less the query's.
__device__ __forceinline__ float score_log2(float product, const AttentionSizes& sizes,
                                            float slope_log2, int ahead) {
    return fmaf(product, sizes.scale_log2, slope_log2 * static_cast<float>(ahead));
}

template <typename T, int kHead>
__global__ void __launch_bounds__(GeneralTile<kHead>::kThreads)
    attend(const __grid_constant__ ForwardArguments<T> args) {
    using G = General<kHead>;
    constexpr int kRows = G::kRows;
    extern __shared__ __align__(16) float floats[];
    float* queries = floats;
    float* keys = queries + kRows * G::kStride;
    float* values = keys + kRows * G::kStride;
    float* weights = values + kRows * G::kStride;

    const AttentionSizes& sizes = args.sizes;
    const auto [head, kv_head, batch, first_row, num_rows] = OwnedQueries<kRows>(sizes);
    const int first_position = args.first_position + first_row;
    const int num_keys = args.first_position + min(sizes.time, first_row + kRows);
    const float slope_log2 = args.slopes != nullptr ? args.slopes[head] * kLog2E : 0.0F;

    G::load(queries, args.queries.row(batch, head, first_row), args.queries.row_stride, num_rows,
            sizes);
    float maximum[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    float sum[4] = {};
    float y[4][G::kSums][4] = {};
    for (int key = 0; key < num_keys; key += kRows) {
        __syncthreads();  // the last keys and values have been used
        G::load(keys, args.keys.row(batch, kv_head, key), args.keys.row_stride, num_keys - key,
                sizes);
        G::load(values, args.values.row(batch, kv_head, key), args.values.row_stride,
                num_keys - key, sizes);
        __syncthreads();
        float scores[4][G::kScores];
        G::dot_products(scores, queries, keys);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float largest = maximum[i];
#pragma unroll
            for (int j = 0; j < G::kScores; ++j) {
                const int ahead =
                    key + kColumns * j + own_column() - first_position - own_row() - i;
                scores[i][j] =
                    ahead > 0 ? -INFINITY : score_log2(scores[i][j], sizes, slope_log2, ahead);
                largest = fmaxf(largest, scores[i][j]);
            }
            largest = row_max(largest);
            const float correction = exp2f(maximum[i] - largest);
            maximum[i] = largest;
            sum[i] *= correction;
#pragma unroll
            for (int j = 0; j < G::kScores; ++j) {
                scores[i][j] = exp2f(scores[i][j] - largest);
                sum[i] += scores[i][j];
            }
#pragma unroll
            for (int n = 0; n < G::kSums; ++n) {
#pragma unroll
                for (int c = 0; c < 4; ++c) {
                    y[i][n][c] *= correction;
                }
            }
        }
        G::add_weighted(y, scores, weights, values);
    }

    float inverse[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        sum[i] = row_sum(sum[i]);
        inverse[i] = 1.0F / sum[i];
        const int t = own_row() + i;
        if (args.log_sum_exp != nullptr && own_column() == 0 && t < num_rows) {
            args.log_sum_exp[(batch * sizes.heads + head) * sizes.time + first_row + t] =
                fmaf(maximum[i], 1 / kLog2E, logf(sum[i]));
        }
    }
    G::store(y, inverse, args.y.row(batch, head, first_row), args.y.row_stride, num_rows, sizes);
}

/// A probability from its score, and from d_p the gradient of the score before its scale.
struct ScoreGradient {
    float p, d_score;

    __device__ __forceinline__ ScoreGradient(float score_log2, float d_p, float log_sum_exp,
                                             float delta, int ahead)
        : p(ahead > 0 ? 0.0F : exp2f(fmaf(-log_sum_exp, kLog2E, score_log2))),
          d_score(p * (d_p - delta)) {}
};

template <typename T, int kHead>
__global__ void __launch_bounds__(GeneralTile<kHead>::kThreads)
    differentiate_keys(const __grid_constant__ BackwardArguments<T> args) {
    using G = General<kHead>;
    constexpr int kRows = G::kRows;
    extern __shared__ __align__(16) float floats[];
    float* keys = floats;
    float* values = keys + kRows * G::kStride;
    float* queries = values + kRows * G::kStride;
    float* d_y = queries + kRows * G::kStride;
    float* weights = d_y + kRows * G::kStride;

    const AttentionSizes& sizes = args.sizes;
    const auto [kv_head, batch, first_row, num_rows] = OwnedKeys<kRows>(sizes);
    G::load(keys, args.keys.row(batch, kv_head, first_row), args.keys.row_stride, num_rows, sizes);
    G::load(values, args.values.row(batch, kv_head, first_row), args.values.row_stride, num_rows,
            sizes);
    float d_keys[4][G::kSums][4] = {};
    float d_values[4][G::kSums][4] = {};
    for (int head = kv_head * sizes.group; head < (kv_head + 1) * sizes.group; ++head) {
        const float slope_log2 = args.slopes != nullptr ? args.slopes[head] * kLog2E : 0.0F;
        const int64_t statistics = (batch * sizes.heads + head) * sizes.time;
        for (int query = first_row; query < sizes.time; query += kRows) {
            __syncthreads();  // the last queries have been used
            G::load(queries, args.queries.row(batch, head, query), args.queries.row_stride,
                    sizes.time - query, sizes);
            G::load(d_y, args.d_y.row(batch, head, query), args.d_y.row_stride, sizes.time - query,
                    sizes);
            __syncthreads();
            float scores[4][G::kScores];
            float d_scores[4][G::kScores];
            G::dot_products(scores, keys, queries);
            G::dot_products(d_scores, values, d_y);
#pragma unroll
            for (int j = 0; j < G::kScores; ++j) {
                const int t = query + kColumns * j + own_column();
                const bool is_query = t < sizes.time;
                const float log_sum_exp = is_query ? args.log_sum_exp[statistics + t] : 0.0F;
                const float delta = is_query ? args.delta[statistics + t] : 0.0F;
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int ahead = first_row + own_row() + i - t;
                    const ScoreGradient gradient(score_log2(scores[i][j], sizes, slope_log2, ahead),
                                                 d_scores[i][j], log_sum_exp, delta, ahead);
                    scores[i][j] = gradient.p;
                    d_scores[i][j] = gradient.d_score;
                }
            }
            G::add_weighted(d_values, scores, weights, d_y);
            G::add_weighted(d_keys, d_scores, weights, queries);
        }
    }
    const float ones[4] = {1.0F, 1.0F, 1.0F, 1.0F};
    const float scales[4] = {sizes.scale, sizes.scale, sizes.scale, sizes.scale};
    G::store(d_keys, scales, args.d_keys.row(batch, kv_head, first_row), args.d_keys.row_stride,
             num_rows, sizes);
    G::store(d_values, ones, args.d_values.row(batch, kv_head, first_row), args.d_values.row_stride,
             num_rows, sizes);
}

template <typename T, int kHead>
__global__ void __launch_bounds__(GeneralTile<kHead>::kThreads)
    differentiate_queries(const __grid_constant__ BackwardArguments<T> args) {
    using G = General<kHead>;
    constexpr int kRows = G::kRows;
    extern __shared__ __align__(16) float floats[];
    float* queries = floats;
    float* d_y = queries + kRows * G::kStride;
    float* keys = d_y + kRows * G::kStride;
    float* values = keys + kRows * G::kStride;
    float* weights = values + kRows * G::kStride;

    const AttentionSizes& sizes = args.sizes;
    const auto [head, kv_head, batch, first_row, num_rows] = OwnedQueries<kRows>(sizes);
    const int num_keys = min(sizes.time, first_row + kRows);
    const float slope_log2 = args.slopes != nullptr ? args.slopes[head] * kLog2E : 0.0F;
    G::load(queries, args.queries.row(batch, head, first_row), args.queries.row_stride, num_rows,
            sizes);
    G::load(d_y, args.d_y.row(batch, head, first_row), args.d_y.row_stride, num_rows, sizes);
    float log_sum_exp[4];
    float delta[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int t = first_row + own_row() + i;
        const int64_t statistic = (batch * sizes.heads + head) * sizes.time + t;
        log_sum_exp[i] = t < sizes.time ? args.log_sum_exp[statistic] : 0.0F;
        delta[i] = t < sizes.time ? args.delta[statistic] : 0.0F;
    }
    float d_queries[4][G::kSums][4] = {};
    for (int key = 0; key < num_keys; key += kRows) {
        __syncthreads();  // the last keys have been used
        G::load(keys, args.keys.row(batch, kv_head, key), args.keys.row_stride, num_keys - key,
                sizes);
        G::load(values, args.values.row(batch, kv_head, key), args.values.row_stride,
                num_keys - key, sizes);
        __syncthreads();
        float scores[4][G::kScores];
        float d_scores[4][G::kScores];
        G::dot_products(scores, queries, keys);
        G::dot_products(d_scores, d_y, values);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int j = 0; j < G::kScores; ++j) {
                const int ahead = key + kColumns * j + own_column() - first_row - own_row() - i;
                d_scores[i][j] = ScoreGradient(score_log2(scores[i][j], sizes, slope_log2, ahead),
                                               d_scores[i][j], log_sum_exp[i], delta[i], ahead)
                                     .d_score;
            }
        }
        G::add_weighted(d_queries, d_scores, weights, keys);
    }
    const float scales[4] = {sizes.scale, sizes.scale, sizes.scale, sizes.scale};
    G::store(d_queries, scales, args.d_queries.row(batch, head, first_row),
             args.d_queries.row_stride, num_rows, sizes);
}

template <int kHead>
LaunchShape shape_of(const AttentionSizes& sizes, int heads, int tiles, cudaStream_t stream) {
    using Shape = GeneralTile<kHead>;
    return {.blocks = dim3(static_cast<unsigned>(sizes.batch * heads),
                           static_cast<unsigned>(divide_up(sizes.time, Shape::kRows))),
            .threads = dim3(Shape::kThreads),
            .shared_bytes = Shape::shared_bytes(tiles),
            .stream = stream};
}

/// Calls function.operator()<padded head size>(); bf16 comes here with large heads alone.
template <typename T, typename Function>
void for_head_size(int head_size, const Function& function) {
    if constexpr (sizeof(T) == sizeof(float)) {
        if (head_size <= 64) {
            return function.template operator()<64>();
        }
        if (head_size <= 128) {
            return function.template operator()<128>();
        }
    }
    function.template operator()<kLargestHead>();
}

}  // namespace

template <typename T>
void launch_general_forward(const ForwardArguments<T>& args, cudaStream_t stream) {
    for_head_size<T>(args.sizes.head_size, [&]<int kHead>() {
        launch("Attention", attend<T, kHead>,
               shape_of<kHead>(args.sizes, args.sizes.heads, 3, stream), args);
    });
}

template <typename T>
void launch_general_backward(const BackwardArguments<T>& args, cudaStream_t stream) {
    for_head_size<T>(args.sizes.head_size, [&]<int kHead>() {
        launch("AttentionBackward", differentiate_keys<T, kHead>,
               shape_of<kHead>(args.sizes, args.sizes.kv_heads, 4, stream), args);
        launch("AttentionBackward", differentiate_queries<T, kHead>,
               shape_of<kHead>(args.sizes, args.sizes.heads, 4, stream), args);
    });
}

template void launch_general_forward(const ForwardArguments<float>&, cudaStream_t);
template void launch_general_forward(const ForwardArguments<Bf16>&, cudaStream_t);
template void launch_general_backward(const BackwardArguments<float>&, cudaStream_t);
template void launch_general_backward(const BackwardArguments<Bf16>&, cudaStream_t);

}  // namespace lathe::cuda
