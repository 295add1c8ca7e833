// What blocked attention needs: how its arguments lie in memory, and the vector work between its
// matrix products. Blocks have kBlock queries and keys; several key blocks form a group.
#pragma once

#include "kernels/cpu/pack.h"
#include "kernels/operations.h"

namespace lathe::cpu {

inline constexpr int64_t kBlock = 64;
inline constexpr int64_t kMostGroupedKeys = 256;

/// Sizes and addresses of one attention's arguments.
struct AttentionGeometry {
    AttentionGeometry(const AttentionHeads& heads, const Tensor& qkv, const MatmulSupport& support);

    int64_t batch, time;
    int64_t heads, kv_heads, head_size;
    int64_t group;        ///< query heads a key/value head
    int64_t qkv_stride;   ///< elements from one token to the next
    DType dtype;          ///< of qkv
    DType operand;        ///< in which it is multiplied
    PanelLayout by_keys;  ///< right operands whose columns are tokens (K^T, Q^T, dY^T)
    PanelLayout by_head;  ///< right operands whose columns are the head's (V, K, Q, dY)
    /// Keys that one product may take: packed blocks of a group must join up in memory.
    int64_t grouped_keys;
    float scale;  ///< 1 / sqrt(D)

    int64_t num_blocks() const { return (time + kBlock - 1) / kBlock; }
    int64_t block_rows(int64_t block) const {
        return block + 1 < num_blocks() ? kBlock : time - block * kBlock;
    }
    /// Bytes of a packed block of kBlock tokens.
    int64_t by_keys_bytes() const { return by_keys.size(head_size, kBlock) * size_of(operand); }
    int64_t by_head_bytes() const { return by_head.size(kBlock, head_size) * size_of(operand); }
    int64_t dense_bytes() const { return kBlock * head_size * size_of(operand); }

    int64_t key_column(int64_t kv_head) const { return (heads + kv_head) * head_size; }
    int64_t value_column(int64_t kv_head) const { return (heads + kv_heads + kv_head) * head_size; }
    /// Rows of tokens from (b, t) on, columns of one head from `column` on, of a [B, T, stride]
    /// tensor.
    MatrixView rows(const Tensor& tensor, int64_t b, int64_t t, int64_t column) const {
        const MatrixView all{tensor.data(), dtype, tensor.columns(), false};
        return all.at(b * time + t, column);
    }
};

inline MatrixView transposed(MatrixView view) {
    view.transposed = !view.transposed;
    return view;
}

/// Scores of `rows` queries from position `query` on with `keys` keys from position `key` on, and
/// the state of the online softmax of those queries.
struct SoftmaxBlock {
    float* scores;  ///< [rows, keys], overwritten
    int64_t rows, keys;
    int64_t query, key;
    float scale, slope;
    DType operand;
    void* probabilities;  ///< [rows, keys] of operand: exp(score - maximum), 0 for later keys
    float* maximum;       ///< [rows]
    float* sum;           ///< [rows]
    float* y;             ///< [rows, head_size], rescaled when a maximum grows
    int64_t head_size;
};
void softmax_block(const SoftmaxBlock& block, bool first);

/// y rows / sum to `destination` (dtype, `stride` elements apart); log_sum_exp[row].
void finish_softmax(const SoftmaxBlock& block, void* destination, DType dtype, int64_t stride,
                    float* log_sum_exp);

/// The middle of the backward of `keys` keys (rows) and `queries` queries (columns).
struct ScoreGradientBlock {
    const float* scores;           ///< [keys, queries]: k . q
    const float* d_probabilities;  ///< [keys, queries]: v . d_y
    int64_t keys, queries;
    int64_t key, query;        ///< positions of the first ones
    const float* log_sum_exp;  ///< [queries]
    const float* delta;        ///< [queries]: d_y . y
    float scale, slope;
    DType operand;
    void* probabilities;  ///< [keys, queries] of operand
    void* d_scores;       ///< [keys, queries] of operand, times `scale`
};
void score_gradient_block(const ScoreGradientBlock& block);

/// out[i] = dot product of rows i of a and b.
void row_dots(const MatrixView& a, const MatrixView& b, int64_t rows, int64_t columns, float* out);

/// destination rows (dtype, `stride` elements apart) = the sum over parts, in order, of source
/// [part][rows, columns], parts `part_stride` elements apart.
void store_sum(const float* source, int64_t parts, int64_t part_stride, void* destination,
               DType dtype, int64_t stride, int64_t rows, int64_t columns);

}  // namespace lathe::cpu
