// Runs of models that are small and yet have every part of the large ones.
#pragma once

#include "train/run_config.h"

namespace lathe::testing {

/// Three blocks of 7 chunks; rotary, grouped queries, an untied head.
inline RunConfig small_llama() {
    RunConfig config;
    config.model = {.vocabulary_size = 200,
                    .sequence_length = 16,
                    .layers = 3,
                    .channels = 48,
                    .heads = 4,
                    .kv_heads = 2,
                    .feed_forward = 130};
    config.train.steps = 100;
    config.train.sequence_length = 16;
    config.train.micro_batch = 1;
    config.train.global_batch = 8;
    return config;
}

/// Learned positions, biases, a tied head.
inline RunConfig small_gpt2() {
    RunConfig config = small_llama();
    config.model.norm = NormKind::layernorm;
    config.model.positions = Positions::learned;
    config.model.mlp = MlpKind::gelu_tanh;
    config.model.biases = Biases::all;
    config.model.kv_heads = 4;
    config.model.tied_embeddings = true;
    return config;
}

inline RunConfig small_bloom() {
    RunConfig config = small_gpt2();
    config.model.positions = Positions::alibi;
    config.model.embedding_norm = true;
    return config;
}

}  // namespace lathe::testing
