// Every operation of a Backend, as a plain struct of its arguments. `backend.run(op)` checks and
// issues it.
//
// Shapes: B batch, T time, C channels, V vocabulary, H heads, K key/value heads, D head size, F
// feed-forward width, N rows, M x N matrices. Where rows are expected, leading dimensions are
// flattened ([B, T, C] is [B*T, C]); of a vector ([N]) only the size matters. "compute" is the
// element type of activations and parameters (f32, bf16; f64 on the reference); "accumulation" is
// f32 (f64 for f64): gradients of parameters, statistics, master weights, losses. `=` assigns an
// output, `+=` adds to it. An optional tensor is absent by default. Outputs may not overlap inputs
// unless said. Sums are rounded once, at the end. Every operation has a `workspace`: at least
// backend.workspace_bytes(op) bytes, contents undefined before and after. Operations reject wrong
// shapes and types with an Error that names the operation and the argument.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/tensor.h"

namespace lathe {

/// Exact: x * Phi(x). Tanh: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks & Gimpel,
/// arXiv 1606.08415).
enum class Activation { none, gelu_exact, gelu_tanh };

/// LayerNorm (Ba et al., arXiv 1607.06450) or RMSNorm (Zhang & Sennrich, arXiv 1910.07467).
enum class NormKind { layernorm, rmsnorm };

/// How the columns of a packed qkv row are divided: H query heads, then K key heads, then K value
/// heads, D columns each. Query head h reads key/value head h / (H / K) (grouped-query attention,
/// arXiv 2305.13245).
struct AttentionHeads {
    int64_t heads = 0;
    int64_t kv_heads = 0;
    int64_t head_size = 0;

    int64_t qkv_columns() const { return (heads + 2 * kv_heads) * head_size; }
};

/// d[M, N] = act(op(a) op(b) + bias) + residual, or d += with `accumulate`. op(a) is [M, K'], op(b)
/// is [K', N]. a and b are compute; d is compute or accumulation. With an activation,
/// `pre_activation` [M, N] (compute, optional) receives the value before it, and the activation is
/// applied to that value as rounded to compute, whether it is kept or not.
struct Matmul {
    Tensor a;  ///< [M, K'], or [K', M] with transpose_a
    Tensor b;  ///< [K', N], or [N, K'] with transpose_b
    Tensor d;  ///< [M, N]
    bool transpose_a = false;
    bool transpose_b = false;
    bool accumulate =
        false;         ///< d += ; d must be of the accumulation type, and no epilogue is allowed
    Tensor bias = {};  ///< [N] compute, optional
    Activation activation = Activation::none;
    Tensor pre_activation = {};  ///< [M, N] compute, optional, only with an activation
    Tensor residual = {};        ///< [M, N] compute, optional, may be d itself
    Tensor workspace = {};
};

/// d_bias[N] = sum over rows of d_y[M, N]; d_bias accumulation, d_y compute.
struct BiasBackward {
    Tensor d_y;
    Tensor d_bias;
    Tensor workspace = {};
};

/// y[b, t] = token_table[tokens[b, t]] + position_table[first_position + t]. A token outside of
/// [0, V) is the caller's error, which only the reference reports.
struct Embedding {
    Tensor tokens;               ///< [B, T] i32, each in [0, V)
    Tensor token_table;          ///< [V, C] compute
    Tensor position_table = {};  ///< [P, C] compute, optional; first_position + T <= P
    Tensor y;                    ///< [B, T, C] compute
    int64_t first_position = 0;
    Tensor workspace = {};
};

/// Gradient of Embedding with first_position 0. d_token_table[v] = (or +=, with accumulate_tokens:
/// a tied head wrote it first) the sum of d_y over all (b, t) with tokens[b, t] == v, rows in
/// order; d_position_table[t] = sum over b, and zero for t >= T.
struct EmbeddingBackward {
    Tensor tokens;                 ///< [B, T] i32
    Tensor d_y;                    ///< [B, T, C] compute
    Tensor d_token_table;          ///< [V, C] accumulation
    Tensor d_position_table = {};  ///< [P, C] accumulation, optional
    bool accumulate_tokens = false;
    Tensor workspace = {};
};

/// s = x + residual (rounded to compute; s = x without a residual), then per row
///   layernorm: y = (s - mean) * rstd * weight + bias, rstd = 1 / sqrt(var + epsilon), var biased;
///   rmsnorm:   y = s * rstd * weight,                rstd = 1 / sqrt(mean(s^2) + epsilon).
struct Norm {
    NormKind kind = NormKind::layernorm;
    float epsilon = 1e-5F;
    Tensor x;              ///< [N, C] compute
    Tensor residual = {};  ///< [N, C] compute, optional
    Tensor sum =
        {};  ///< [N, C] compute, receives s; present exactly when residual is; may be x or residual
    Tensor weight;     ///< [C] compute
    Tensor bias = {};  ///< [C] compute; present exactly for layernorm
    Tensor y;          ///< [N, C] compute
    Tensor mean = {};  ///< [N] accumulation; present exactly for layernorm
    Tensor rstd;       ///< [N] accumulation
    Tensor workspace = {};
};

/// Gradient of Norm with respect to s (which is that of x and of residual too).
/// d_x = d_residual + gradient through the norm; d_weight, d_bias = sums over rows.
struct NormBackward {
    NormKind kind = NormKind::layernorm;
    Tensor d_y;              ///< [N, C] compute
    Tensor x;                ///< [N, C] compute: the s of the forward
    Tensor weight;           ///< [C] compute
    Tensor mean = {};        ///< [N] accumulation, layernorm only
    Tensor rstd;             ///< [N] accumulation
    Tensor d_residual = {};  ///< [N, C] compute, optional: gradient that reaches s past the norm
    Tensor d_x;              ///< [N, C] compute; may be d_y or d_residual
    Tensor d_weight;         ///< [C] accumulation
    Tensor d_bias = {};      ///< [C] accumulation, layernorm only
    Tensor workspace = {};
};

/// Rotates, in place, each query and key head of qkv [B, T, (H+2K)D] (values stay), half-split
/// form: with p = first_position + t and i < D/2, (u, v) = (head[i], head[i + D/2]) becomes (u c -
/// v s, v c + u s), where c = table[p, i], s = table[p, i + D/2] (Su et al., arXiv 2104.09864).
/// `inverse` rotates back: the backward.
struct Rotary {
    AttentionHeads heads;
    Tensor qkv;    ///< [B, T, (H+2K)D] compute
    Tensor table;  ///< [P, D] accumulation: cosines, then sines
    int64_t first_position = 0;
    bool inverse = false;
    Tensor workspace = {};
};

/// Causal attention: for query t of head h, p = softmax over j <= t of (q_t . k_j / sqrt(D) +
/// slope_h (j - t)), y = sum_j p_j v_j, log_sum_exp[b, h, t] = log of the softmax's denominator
/// (natural logarithm). Never holds a T x T matrix (FlashAttention-2, arXiv 2307.08691). Slopes:
/// ALiBi, arXiv 2108.12409.
struct Attention {
    AttentionHeads heads;
    Tensor qkv;          ///< [B, T, (H+2K)D] compute
    Tensor slopes = {};  ///< [H] accumulation, optional (absent: no bias)
    Tensor y;            ///< [B, T, HD] compute
    Tensor log_sum_exp;  ///< [B, H, T] accumulation
    Tensor workspace = {};
};

/// Gradient of Attention: d_qkv = (all of it).
struct AttentionBackward {
    AttentionHeads heads;
    Tensor d_y;          ///< [B, T, HD] compute
    Tensor qkv;          ///< [B, T, (H+2K)D] compute
    Tensor slopes = {};  ///< [H] accumulation, optional
    Tensor y;            ///< [B, T, HD] compute: output of the forward
    Tensor log_sum_exp;  ///< [B, H, T] accumulation
    Tensor d_qkv;        ///< [B, T, (H+2K)D] compute
    Tensor workspace = {};
};

/// Attention of S new tokens against a cache, for generation. The keys and values of qkv (already
/// rotated) are first stored at positions first_position .. first_position + S - 1 of the caches;
/// token i then attends to positions 0 .. first_position + i as Attention does.
struct CachedAttention {
    AttentionHeads heads;
    Tensor qkv;                  ///< [B, S, (H+2K)D] compute
    Tensor slopes = {};          ///< [H] accumulation, optional
    Tensor key_cache;            ///< [B, K, P, D] compute, updated
    Tensor value_cache;          ///< [B, K, P, D] compute, updated
    int64_t first_position = 0;  ///< first_position + S <= P
    Tensor y;                    ///< [B, S, HD] compute
    Tensor workspace = {};
};

/// y = act(x), elementwise; activation is not none. (In the forward pass Matmul's epilogue does
/// this; recomputation uses this operation and gets the same bits.)
struct Gelu {
    Activation activation = Activation::gelu_tanh;
    Tensor x;  ///< compute
    Tensor y;  ///< compute, same shape
    Tensor workspace = {};
};

/// d_x = d_y act'(x), elementwise; d_x may be d_y.
struct GeluBackward {
    Activation activation = Activation::gelu_tanh;
    Tensor d_y;
    Tensor x;
    Tensor d_x;
    Tensor workspace = {};
};

/// y[n, f] = silu(gate_up[n, f]) * gate_up[n, F + f], silu(x) = x / (1 + exp(-x)) (Shazeer, arXiv
/// 2002.05202).
struct Swiglu {
    Tensor gate_up;  ///< [N, 2F] compute: gate columns, then up columns
    Tensor y;        ///< [N, F] compute
    Tensor workspace = {};
};

/// Gradient of Swiglu: d_gate_up = ; may be gate_up itself.
struct SwigluBackward {
    Tensor d_y;        ///< [N, F] compute
    Tensor gate_up;    ///< [N, 2F] compute
    Tensor d_gate_up;  ///< [N, 2F] compute
    Tensor workspace = {};
};

/// Softmax cross-entropy of one chunk of rows, and its gradient. Columns >= vocabulary are padding:
/// no probability, zero gradient. losses[n] = log sum exp(logits[n]) - logits[n, target]; d_logits
/// = scale (softmax - one-hot). A negative target gives loss 0 and gradient 0. The caller walks
/// chunks, so all logits are never held.
struct CrossEntropy {
    Tensor logits;           ///< [N, V'] compute or accumulation
    Tensor targets;          ///< [N] i32, each < vocabulary (the caller's to see to)
    int64_t vocabulary = 0;  ///< V <= V'
    float scale = 1.0F;      ///< gradient's factor, 1 / (tokens of the global batch)
    Tensor losses;           ///< [N] accumulation
    Tensor d_logits = {};    ///< [N, V'] optional; of the logits' type (then it may be logits), or
                             ///< bf16 for f32 logits
    Tensor workspace = {};
};

/// Decoupled weight decay Adam (Loshchilov & Hutter, arXiv 1711.05101), step counted from 1, per
/// element:
///   g = gradient_scale * gradient
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
///   direction = m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + epsilon)
///   master = master - learning_rate (direction + weight_decay master)
///   parameter = round(master); NaN stays NaN
struct AdamW {
    Tensor gradient;        ///< [n] accumulation
    Tensor master;          ///< [n] accumulation, updated
    Tensor first_moment;    ///< [n] accumulation, updated
    Tensor second_moment;   ///< [n] accumulation, updated
    Tensor parameter = {};  ///< [n] bf16, assigned; absent when the master is itself the parameter
    float learning_rate = 0.0F;
    float beta1 = 0.9F;
    float beta2 = 0.95F;
    float epsilon = 1e-8F;
    float weight_decay = 0.0F;
    float gradient_scale = 1.0F;
    int64_t step = 1;
    /// Stochastic rounding of `parameter`: element i takes the random number (seed, first_element +
    /// i, step) of kernels/random.h; otherwise nearest even.
    bool stochastic_rounding = false;
    uint64_t seed = 0;
    int64_t first_element = 0;
    Tensor workspace = {};
};

/// sum = contributions[0] (with assign) or sum + contributions[0], then + contributions[1], ...
/// left to right, each addition rounded to the accumulation type: the order is the caller's and
/// part of the result.
struct Accumulate {
    Tensor sum;                             ///< [n] accumulation
    std::span<const Tensor> contributions;  ///< each [n], compute or accumulation; at least one
    bool assign = false;
    Tensor workspace = {};
};

/// partial[c] = sum of x[i]^2 over chunk c (elements [c, c+1) * kChunkElements), in f64. NaN and
/// infinity propagate.
struct SquaredNorm {
    Tensor x;        ///< [n] accumulation
    Tensor partial;  ///< [ceil(n / kChunkElements)] f64
    Tensor workspace = {};
};

/// y = x converted to y's type, round to nearest even; x and y of equal size, f32, bf16 or f64.
struct Cast {
    Tensor x;
    Tensor y;
    Tensor workspace = {};
};

/// The unit of sharding and of reductions: parameters are flat rows of chunks of this many
/// elements.
inline constexpr int64_t kChunkElements = 4096;

/// The one list of operations: LATHE_OPERATIONS(X) is X(Matmul) X(BiasBackward) ...
#define LATHE_OPERATIONS(X) \
    X(Matmul)               \
    X(BiasBackward)         \
    X(Embedding)            \
    X(EmbeddingBackward)    \
    X(Norm)                 \
    X(NormBackward)         \
    X(Rotary)               \
    X(Attention)            \
    X(AttentionBackward)    \
    X(CachedAttention)      \
    X(Gelu)                 \
    X(GeluBackward)         \
    X(Swiglu)               \
    X(SwigluBackward)       \
    X(CrossEntropy)         \
    X(AdamW)                \
    X(Accumulate)           \
    X(SquaredNorm)          \
    X(Cast)

/// Throws an Error that names the operation and the argument when shapes or types are wrong.
/// Backend::run calls it.
#define LATHE_DECLARE_CHECK(Operation) void check(const Operation& op);
LATHE_OPERATIONS(LATHE_DECLARE_CHECK)
#undef LATHE_DECLARE_CHECK

}  // namespace lathe
