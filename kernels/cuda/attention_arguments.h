// What the attention kernels read and write: rows of heads, wherever they lie.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/element.h"
#include "kernels/operations.h"

namespace lathe::cuda {

inline constexpr float kLog2E = 1.4426950408889634F;

/// Rows of one kind (queries, keys, ...) by sequence, head and time. Strides are in elements.
template <typename T>
struct HeadRows {
    T* data;
    int64_t batch_stride;
    int64_t head_stride;
    int64_t row_stride;

    __host__ __device__ T* row(int64_t batch, int64_t head, int64_t time) const {
        return data + batch * batch_stride + head * head_stride + time * row_stride;
    }
};

/// Heads from `first_head` on of packed rows [B, T, columns].
template <typename T>
HeadRows<T> packed_rows(const Tensor& tensor, int64_t head_size, int64_t first_head) {
    const int64_t columns = tensor.columns();
    return {static_cast<T*>(tensor.data()) + first_head * head_size, tensor.shape()[1] * columns,
            head_size, columns};
}

/// [B, K, P, D]
template <typename T>
HeadRows<T> cached_rows(const Tensor& cache) {
    const int64_t head_size = cache.columns();
    const int64_t positions = cache.shape()[2];
    return {static_cast<T*>(cache.data()), cache.shape()[1] * positions * head_size,
            positions * head_size, head_size};
}

/// The sizes and factors that the forward and the backward share.
struct AttentionSizes {
    int64_t batch;
    int time;  ///< queries
    int heads;
    int kv_heads;
    int group;  ///< query heads that share a key head
    int head_size;
    float scale;          ///< 1 / sqrt(D)
    float scale_log2;     ///< of a power of two instead of e
    float inverse_scale;  ///< sqrt(D)
    bool is_aligned;      ///< rows begin and end at multiples of 16 bytes

    AttentionSizes(const AttentionHeads& shape, const Tensor& qkv, bool is_base_aligned)
        : batch(qkv.shape()[0]),
          time(static_cast<int>(qkv.shape()[1])),
          heads(static_cast<int>(shape.heads)),
          kv_heads(static_cast<int>(shape.kv_heads)),
          group(static_cast<int>(shape.heads / shape.kv_heads)),
          head_size(static_cast<int>(shape.head_size)) {
        const double root = std::sqrt(static_cast<double>(shape.head_size));
        scale = static_cast<float>(1 / root);
        scale_log2 = static_cast<float>(1.4426950408889634 / root);
        inverse_scale = static_cast<float>(root);
        is_aligned = is_base_aligned && shape.head_size * size_of(qkv.dtype()) % 16 == 0;
    }
};

template <typename T>
struct ForwardArguments {
    AttentionSizes sizes;
    HeadRows<const T> queries, keys, values;
    HeadRows<T> y;
    float* log_sum_exp;   ///< [B, H, time], or null
    const float* slopes;  ///< [H], or null
    int first_position;   ///< of the first query; keys before it come first
};

template <typename T>
struct BackwardArguments {
    AttentionSizes sizes;
    HeadRows<const T> queries, keys, values, d_y;
    HeadRows<T> d_queries, d_keys, d_values;
    const float* log_sum_exp;  ///< [B, H, time]
    const float* delta;        ///< [B, H, time]: d_y . y
    const float* slopes;       ///< [H], or null
};

/// Queries that a block owns: kRows of one head. The last ones see the most keys: they go first, so
/// that blocks end together.
template <int kRows>
struct OwnedQueries {
    int head;
    int kv_head;
    int64_t batch;
    int first_row;
    int num_rows;  ///< from first_row to the last query: may be more than kRows

    __device__ __forceinline__ explicit OwnedQueries(const AttentionSizes& sizes)
        : head(static_cast<int>(blockIdx.x) % sizes.heads),
          kv_head(head / sizes.group),
          batch(static_cast<int>(blockIdx.x) / sizes.heads),
          first_row(static_cast<int>(gridDim.y - 1 - blockIdx.y) * kRows),
          num_rows(sizes.time - first_row) {}
};

/// Keys that a block owns. The first ones are seen by the most queries, and go first.
template <int kRows>
struct OwnedKeys {
    int kv_head;
    int64_t batch;
    int first_row;
    int num_rows;

    __device__ __forceinline__ explicit OwnedKeys(const AttentionSizes& sizes)
        : kv_head(static_cast<int>(blockIdx.x) % sizes.kv_heads),
          batch(static_cast<int>(blockIdx.x) / sizes.kv_heads),
          first_row(static_cast<int>(blockIdx.y) * kRows),
          num_rows(sizes.time - first_row) {}
};

/// The forward of Attention and of prompts: picks the kernel by type and head size.
template <typename T>
void launch_forward(const ForwardArguments<T>& args, cudaStream_t stream);

/// The same without tensor cores, any head size up to kLargestHead.
template <typename T>
void launch_general_forward(const ForwardArguments<T>& args, cudaStream_t stream);
template <typename T>
void launch_general_backward(const BackwardArguments<T>& args, cudaStream_t stream);

}  // namespace lathe::cuda
