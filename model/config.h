// ModelConfig: one space of decoder-only transformers in which GPT-2, Llama, Qwen2 and BLOOM are
// points.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/operations.h"

namespace lathe {

enum class Positions { learned, rotary, alibi };
enum class MlpKind { gelu_exact, gelu_tanh, swiglu };
/// Which linear layers carry a bias. (A layernorm always has one, an rmsnorm never.)
enum class Biases { none, qkv, all };
/// Standard deviation of the initial weights: `plain` init_std everywhere (Llama, Qwen2, BLOOM),
/// `scaled_residual` also divides it by sqrt(2 L) for the projections that write to the residual
/// stream (GPT-2).
enum class InitRule { plain, scaled_residual };

struct ModelConfig {
    int64_t vocabulary_size = 0;    ///< tokens that exist; tables have padded_vocabulary() rows
    int64_t sequence_length = 256;  ///< longest context (rows of a learned position table)
    int64_t layers = 6;
    int64_t channels = 288;
    int64_t heads = 6;
    int64_t kv_heads = 6;
    int64_t feed_forward = 768;
    NormKind norm = NormKind::rmsnorm;
    double norm_epsilon = 1e-5;
    Positions positions = Positions::rotary;
    double rotary_theta = 10000.0;
    MlpKind mlp = MlpKind::swiglu;
    Biases biases = Biases::none;
    bool embedding_norm = false;   ///< a norm right after the embedding (BLOOM)
    bool tied_embeddings = false;  ///< the head multiplies by the token table
    InitRule init_rule = InitRule::plain;
    double init_std = 0.02;

    bool operator==(const ModelConfig&) const = default;

    /// Vocabulary rounded up to a multiple of 64; padding never gets probability and is stripped on
    /// export.
    int64_t padded_vocabulary() const { return (vocabulary_size + 63) / 64 * 64; }
    int64_t head_size() const { return channels / heads; }
    AttentionHeads attention_heads() const { return {heads, kv_heads, head_size()}; }

    /// Throws UsageError naming the field, its value and what would be right.
    void validate() const;
};

/// Named shapes: gpt2-124m, gpt2-355m, gpt2-774m, gpt2-1558m, llama-5m, llama-15m, llama-110m,
/// llama-1b, llama-8b, bloom-560m. Each has its family's own vocabulary size; the run configuration
/// replaces it by the tokenizer's.
ModelConfig preset(std::string_view name);  ///< throws UsageError listing the names
std::vector<std::string> preset_names();

/// ALiBi slopes [H] (arXiv 2108.12409, section 3; as BLOOM for H no power of two).
std::vector<float> alibi_slopes(int64_t heads);
/// Rotary table [positions, D]: cosines, then sines, of p theta^(-2i/D), computed in double.
std::vector<double> rotary_table(int64_t positions, int64_t head_size, double theta);

/// Parameters used in matrix products, the head's (the tied table) among them.
double matmul_parameters(const ModelConfig& config);
/// Training FLOPs a token: 6 x matmul_parameters + 6 x L x C x T (causal attention).
double training_flops_per_token(const ModelConfig& config, int64_t sequence_length);

}  // namespace lathe
