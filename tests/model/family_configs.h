// Small configurations of every family, for the tests of file formats.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "model/hugging_face.h"

namespace lathe {

struct FamilyCase {
    std::string name;
    Family family;
    ModelConfig config;
};
inline void PrintTo(const FamilyCase& one, std::ostream* stream) { *stream << one.name; }

inline std::vector<FamilyCase> family_cases() {
    ModelConfig gpt2;
    gpt2.vocabulary_size = 67;
    gpt2.sequence_length = 10;
    gpt2.layers = 2;
    gpt2.channels = 12;
    gpt2.heads = gpt2.kv_heads = 3;
    gpt2.feed_forward = 20;
    gpt2.norm = NormKind::layernorm;
    gpt2.positions = Positions::learned;
    gpt2.mlp = MlpKind::gelu_tanh;
    gpt2.biases = Biases::all;
    gpt2.tied_embeddings = true;
    gpt2.init_rule = InitRule::scaled_residual;
    ModelConfig gpt2_other = gpt2;
    gpt2_other.mlp = MlpKind::gelu_exact;
    gpt2_other.tied_embeddings = false;
    gpt2_other.init_rule = InitRule::plain;
    ModelConfig llama;
    llama.vocabulary_size = 65;
    llama.sequence_length = 32;
    llama.layers = 2;
    llama.channels = 24;
    llama.heads = 6;
    llama.kv_heads = 2;
    llama.feed_forward = 28;
    llama.norm_epsilon = 1e-6;
    llama.rotary_theta = 500000.0;
    llama.init_std = 0.03;
    ModelConfig llama_tied = llama;
    llama_tied.kv_heads = 6;
    llama_tied.layers = 1;
    llama_tied.tied_embeddings = true;
    ModelConfig qwen2 = llama;
    qwen2.biases = Biases::qkv;
    qwen2.kv_heads = 1;
    qwen2.tied_embeddings = true;
    ModelConfig bloom = gpt2;
    bloom.positions = Positions::alibi;
    bloom.embedding_norm = true;
    bloom.feed_forward = 48;
    bloom.init_rule = InitRule::plain;
    ModelConfig between = llama;  // rotary GPT-2
    between.norm = NormKind::layernorm;
    between.mlp = MlpKind::gelu_tanh;
    between.biases = Biases::all;
    return {{"gpt2", Family::gpt2, gpt2},
            {"gpt2_untied_exact", Family::gpt2, gpt2_other},
            {"llama_grouped", Family::llama, llama},
            {"llama_tied", Family::llama, llama_tied},
            {"qwen2", Family::qwen2, qwen2},
            {"bloom", Family::bloom, bloom},
            {"between", Family::lathe, between}};
}

inline FamilyCase family_case(const std::string& name) {
    for (const FamilyCase& one : family_cases()) {
        if (one.name == name) {
            return one;
        }
    }
    fail("no case {}", name);
}

}  // namespace lathe
