// Small plans for tests.
#pragma once

#include "plan/dry_run.h"

namespace lathe::testing {

/// A CPU whose rates are round numbers: 1e9 FLOP/s and bytes/s a core.
inline Hardware plain_cpu(int64_t cores = 4) {
    Hardware hardware;
    hardware.name = "plain";
    hardware.target = "cpu";
    hardware.cores = cores;
    hardware.memory_bytes = int64_t{1} << 34;
    hardware.memory_bytes_per_second = 1e9 * static_cast<double>(cores);
    hardware.f32_flops = 1e9 * static_cast<double>(cores);
    hardware.bf16_flops = 1e9 * static_cast<double>(cores);
    hardware.within_node = {.bytes_per_second = 1e9, .latency_s = 1e-6};
    hardware.between_nodes = {.bytes_per_second = 1e8, .latency_s = 1e-5};
    hardware.host = {.bytes_per_second = 1e9, .latency_s = 0.0};
    return hardware;
}

/// Three blocks, rotary, grouped queries, an untied head.
inline RunConfig small_llama() {
    RunConfig config;
    config.model = {.vocabulary_size = 200,
                    .sequence_length = 32,
                    .layers = 3,
                    .channels = 48,
                    .heads = 4,
                    .kv_heads = 2,
                    .feed_forward = 130};
    config.train.steps = 100;
    config.train.sequence_length = 32;
    config.train.micro_batch = 1;
    config.train.global_batch = 8;
    return config;
}

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
