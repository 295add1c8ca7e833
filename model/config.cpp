#include "model/config.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "kernels/error.h"

namespace lathe {

namespace {

/// The largest divisor of `number` at or below `value`, and the smallest above it when there is
/// one, as "6" or "6 or 8".
std::string nearest_divisors(int64_t number, int64_t value) {
    int64_t below = 1;
    int64_t above = 0;
    for (int64_t i = 1; i * i <= number; ++i) {
        if (number % i != 0) {
            continue;
        }
        for (const int64_t divisor : {i, number / i}) {
            if (divisor <= value) {
                below = std::max(below, divisor);
            } else if (above == 0 || divisor < above) {
                above = divisor;
            }
        }
    }
    return above == 0 ? fmt::format("{}", below) : fmt::format("{} or {}", below, above);
}

void check_size(std::string_view name, int64_t value) {
    constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
    LATHE_CHECK_USAGE(value >= 1 && value <= kLargest, "{} = {}: must be from 1 to {}", name, value,
                      kLargest);
}

void check_positive(std::string_view name, double value) {
    LATHE_CHECK_USAGE(std::isfinite(value) && value > 0.0, "{} = {}: must be a number above 0",
                      name, value);
}

/// Radford et al., "Language models are unsupervised multitask learners" (2019).
ModelConfig gpt2(int64_t layers, int64_t channels, int64_t heads) {
    ModelConfig config;
    config.vocabulary_size = 50257;
    config.sequence_length = 1024;
    config.layers = layers;
    config.channels = channels;
    config.heads = heads;
    config.kv_heads = heads;
    config.feed_forward = 4 * channels;
    config.norm = NormKind::layernorm;
    config.positions = Positions::learned;
    config.mlp = MlpKind::gelu_tanh;
    config.biases = Biases::all;
    config.tied_embeddings = true;
    config.init_rule = InitRule::scaled_residual;
    return config;
}

/// Llama's architecture (arXiv 2302.13971) without grouped queries and with tied embeddings, as
/// llama2.c trains it.
ModelConfig small_llama(int64_t layers, int64_t channels, int64_t heads, int64_t feed_forward) {
    ModelConfig config;
    config.vocabulary_size = 32000;
    config.layers = layers;
    config.channels = channels;
    config.heads = heads;
    config.kv_heads = heads;
    config.feed_forward = feed_forward;
    config.tied_embeddings = true;
    return config;
}

/// Llama 3 (arXiv 2407.21783).
ModelConfig llama3(int64_t layers, int64_t channels, int64_t feed_forward) {
    ModelConfig config;
    config.vocabulary_size = 128256;
    config.sequence_length = 8192;
    config.layers = layers;
    config.channels = channels;
    config.heads = 32;
    config.kv_heads = 8;
    config.feed_forward = feed_forward;
    config.rotary_theta = 500000.0;
    return config;
}

ModelConfig gpt2_124m() { return gpt2(12, 768, 12); }
ModelConfig gpt2_355m() { return gpt2(24, 1024, 16); }
ModelConfig gpt2_774m() { return gpt2(36, 1280, 20); }
ModelConfig gpt2_1558m() { return gpt2(48, 1600, 25); }

/// 5.2M parameters with a vocabulary of 4,096 of one's own text; two query heads share a key head.
ModelConfig llama_5m() {
    ModelConfig config = small_llama(6, 256, 4, 640);
    config.vocabulary_size = 4096;
    config.sequence_length = 512;
    config.kv_heads = 2;
    return config;
}

/// llama2.c's stories15M: 15.2M parameters with Llama 2's vocabulary (7.2M with one of 4,096).
ModelConfig llama_15m() { return small_llama(6, 288, 6, 768); }

/// llama2.c's stories110M: 109.5M parameters with Llama 2's vocabulary.
ModelConfig llama_110m() {
    ModelConfig config = small_llama(12, 768, 12, 2048);
    config.sequence_length = 1024;
    return config;
}

/// Llama 3.2 1B, without its stretching of the rotary frequencies to 128k positions.
ModelConfig llama_1b() {
    ModelConfig config = llama3(16, 2048, 8192);
    config.tied_embeddings = true;
    return config;
}

ModelConfig llama_8b() { return llama3(32, 4096, 14336); }

/// BLOOM (arXiv 2211.05100).
ModelConfig bloom_560m() {
    ModelConfig config = gpt2(24, 1024, 16);
    config.vocabulary_size = 250880;
    config.sequence_length = 2048;
    config.positions = Positions::alibi;
    config.embedding_norm = true;
    config.init_rule = InitRule::plain;
    return config;
}

struct NamedPreset {
    const char* name;
    ModelConfig (*make)();
};

constexpr NamedPreset kPresets[] = {
    {"gpt2-124m", gpt2_124m},   {"gpt2-355m", gpt2_355m}, {"gpt2-774m", gpt2_774m},
    {"gpt2-1558m", gpt2_1558m}, {"llama-5m", llama_5m},   {"llama-15m", llama_15m},
    {"llama-110m", llama_110m}, {"llama-1b", llama_1b},   {"llama-8b", llama_8b},
    {"bloom-560m", bloom_560m},
};

}  // namespace

void ModelConfig::validate() const {
    check_size("vocabulary-size", vocabulary_size);
    check_size("context-length", sequence_length);
    check_size("layers", layers);
    check_size("channels", channels);
    check_size("heads", heads);
    check_size("kv-heads", kv_heads);
    check_size("feed-forward", feed_forward);
    LATHE_CHECK_USAGE(channels % heads == 0, "heads = {}: must divide channels = {} (e.g. {})",
                      heads, channels, nearest_divisors(channels, heads));
    LATHE_CHECK_USAGE(heads % kv_heads == 0, "kv-heads = {}: must divide heads = {} (e.g. {})",
                      kv_heads, heads, nearest_divisors(heads, kv_heads));
    LATHE_CHECK_USAGE(positions != Positions::rotary || head_size() % 2 == 0,
                      "heads = {}: rotary positions need an even head size, but channels / heads = "
                      "{} / {} = {}; change channels, heads or positions",
                      heads, channels, heads, head_size());
    check_positive("norm-epsilon", norm_epsilon);
    check_positive("rotary-theta", rotary_theta);
    check_positive("init-std", init_std);
    const double weights =
        static_cast<double>(channels) *
        (2.0 * static_cast<double>(padded_vocabulary() + sequence_length) +
         static_cast<double>(layers) *
             (4.0 * static_cast<double>(channels) + 3.0 * static_cast<double>(feed_forward)));
    LATHE_CHECK_USAGE(weights < 1e15,
                      "channels = {}: with layers = {} and feed-forward = {} the model would have "
                      "more than 1e15 parameters; make one of them smaller",
                      channels, layers, feed_forward);
}

ModelConfig preset(std::string_view name) {
    std::string names;
    for (const NamedPreset& candidate : kPresets) {
        if (name == candidate.name) {
            return candidate.make();
        }
        names += fmt::format("{}{}", names.empty() ? "" : ", ", candidate.name);
    }
    fail_usage("preset = {}: there is no such preset; choose one of {}", name, names);
}

std::vector<std::string> preset_names() {
    std::vector<std::string> names;
    for (const NamedPreset& candidate : kPresets) {
        names.emplace_back(candidate.name);
    }
    return names;
}

std::vector<float> alibi_slopes(int64_t heads) {
    // With P the largest power of two <= H: 2^(-8 i / P) for i = 1..P, then the odd powers of the
    // ratio for 2 P heads.
    const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
    std::vector<float> slopes;
    for (int64_t i = 0; i < heads; ++i) {
        const double exponent =
            i < power ? 8.0 * static_cast<double>(i + 1) / static_cast<double>(power)
                      : 4.0 * static_cast<double>(2 * (i - power) + 1) / static_cast<double>(power);
        slopes.push_back(static_cast<float>(std::exp2(-exponent)));
    }
    return slopes;
}

std::vector<double> rotary_table(int64_t positions, int64_t head_size, double theta) {
    const int64_t half = head_size / 2;
    std::vector<double> frequencies;
    for (int64_t i = 0; i < half; ++i) {
        frequencies.push_back(
            std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_size)));
    }
    std::vector<double> table(static_cast<size_t>(positions * head_size));
    for (int64_t p = 0; p < positions; ++p) {
        for (int64_t i = 0; i < half; ++i) {
            const double angle = static_cast<double>(p) * frequencies[static_cast<size_t>(i)];
            table[static_cast<size_t>(p * head_size + i)] = std::cos(angle);
            table[static_cast<size_t>(p * head_size + half + i)] = std::sin(angle);
        }
    }
    return table;
}

double matmul_parameters(const ModelConfig& config) {
    const auto channels = static_cast<double>(config.channels);
    const double up_columns =
        (config.mlp == MlpKind::swiglu ? 2.0 : 1.0) * static_cast<double>(config.feed_forward);
    const double block_weights =
        channels * (static_cast<double>(config.attention_heads().qkv_columns()) + channels +
                    up_columns + static_cast<double>(config.feed_forward));
    const double head_weights = channels * static_cast<double>(config.vocabulary_size);
    return static_cast<double>(config.layers) * block_weights + head_weights;
}

double training_flops_per_token(const ModelConfig& config, int64_t sequence_length) {
    return 6.0 * matmul_parameters(config) + 6.0 * static_cast<double>(config.layers) *
                                                 static_cast<double>(config.channels) *
                                                 static_cast<double>(sequence_length);
}

}  // namespace lathe
