// One transformer block: x + attention(norm(x)), then the same with the MLP.
#pragma once

#include "model/kv_cache.h"
#include "model/layers.h"

namespace lathe {

/// What a forward pass keeps for a backward.
///
/// Bytes per token and layer, with e bytes of compute type, F' = F (GELU) or 2F (SwiGLU), G =
/// (H + 2K) D columns of qkv (3C without grouped queries), a = 4 bytes of accumulation type, and
/// n = 2 (layernorm) or 1 (rmsnorm) statistics for each of the two norms:
///   everything  e (5 C + G + F' + F) + a (H + 2 n)   GPT-2, bf16: 32 C + small
///   products    e (3 C + G + F')     + a (H + 2 n)   GPT-2, bf16: 20 C + small
///   input       e C                                  GPT-2, bf16:  2 C
///   nothing     0                                    evaluation and generation
enum class Keep { everything, products, input, nothing };

/// A block's parameters, or their gradients.
struct BlockTensors {
    explicit BlockTensors(const UnitView& unit);

    NormTensors attention_norm;
    LinearTensors qkv;     ///< [(H + 2K) D, C]
    LinearTensors output;  ///< [C, HD]
    NormTensors mlp_norm;
    LinearTensors up;    ///< [F, C], or gate and up [2F, C]
    LinearTensors down;  ///< [C, F]
};

/// Intermediates of one block, in the order in which they are made; dropped ones are absent.
struct BlockSaved {
    Buffer x;  ///< [B, T, C]
    NormSaved attention_norm;
    Buffer qkv;            ///< [B, T, (H + 2K) D], rotated
    Buffer attention;      ///< [B, T, HD]
    Buffer log_sum_exp;    ///< [B, H, T]
    Buffer attention_sum;  ///< [B, T, C]: x + attention's output
    NormSaved mlp_norm;
    Buffer up;      ///< [B, T, F] before the activation, or [B, T, 2F] gate and up
    Buffer hidden;  ///< [B, T, F] after it
};

/// The block `name` ("blocks.3") with its parameters at hand.
struct Block {
    ModelContext& context;
    std::string_view name;
    BlockTensors parameters;

    /// Returns the block's output [B, T, C]; `saved` takes what `keep` says, `x` too unless
    /// nothing.
    Buffer forward(Buffer x, Keep keep, BlockSaved& saved);
    /// Forward of the tokens that follow those in the cache, whose layer `layer` takes their keys
    /// and values.
    Buffer forward_cached(Buffer x, const KvCache& cache, int64_t layer);
    /// d [B, T, C] is the gradient of the output and becomes that of the input; gradients =.
    /// Recomputes what was dropped, and frees each intermediate as soon as it is used.
    void backward(BlockSaved saved, const BlockTensors& gradients, const Tensor& d);

  private:
    void qkv_forward(BlockSaved& saved, Keep keep, int64_t first_position);
    void attend(BlockSaved& saved, Keep keep);
    void output_forward(BlockSaved& saved, Keep keep);
    void hidden_forward(BlockSaved& saved, Keep keep);
    Buffer down_forward(BlockSaved& saved, Keep keep);
    void recompute(BlockSaved& saved);
    void attention_backward(BlockSaved& saved, const BlockTensors& gradients, const Tensor& d);
    void mlp_backward(BlockSaved& saved, const BlockTensors& gradients, const Tensor& d);
    Buffer activation_backward(BlockSaved& saved, Buffer d_hidden);
    void activate(const Tensor& up, const Tensor& hidden);
    void rotate(const Tensor& qkv, int64_t first_position, bool inverse);
    Activation gelu() const;
};

}  // namespace lathe
