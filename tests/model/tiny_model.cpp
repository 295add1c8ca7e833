#include "tests/model/tiny_model.h"

#include <random>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"

namespace lathe {

namespace {

ModelConfig base() {
    ModelConfig config;
    config.vocabulary_size = 37;
    config.sequence_length = 9;
    config.layers = 2;
    config.channels = 12;
    config.heads = 3;
    config.kv_heads = 3;
    config.feed_forward = 20;
    return config;
}

ModelConfig gpt2() {
    ModelConfig config = base();
    config.norm = NormKind::layernorm;
    config.positions = Positions::learned;
    config.mlp = MlpKind::gelu_tanh;
    config.biases = Biases::all;
    config.tied_embeddings = true;
    config.init_rule = InitRule::scaled_residual;
    return config;
}

ModelConfig llama() {
    ModelConfig config = base();
    config.channels = 24;
    config.heads = 4;
    config.kv_heads = 2;
    return config;
}

ModelConfig qwen2() {
    ModelConfig config = llama();
    config.kv_heads = 1;
    config.biases = Biases::qkv;
    config.tied_embeddings = true;
    config.rotary_theta = 1e6;
    config.norm_epsilon = 1e-6;
    return config;
}

ModelConfig bloom() {
    ModelConfig config = gpt2();
    config.positions = Positions::alibi;
    config.embedding_norm = true;
    config.init_rule = InitRule::plain;
    return config;
}

ModelConfig exact_gelu() {
    ModelConfig config = gpt2();
    config.vocabulary_size = 64;
    config.mlp = MlpKind::gelu_exact;
    config.tied_embeddings = false;
    config.embedding_norm = true;
    return config;
}

}  // namespace

std::vector<TinyCase> tiny_cases() {
    return {{"gpt2", gpt2()},
            {"llama", llama()},
            {"qwen2", qwen2()},
            {"bloom", bloom()},
            {"exact_gelu", exact_gelu()}};
}

std::vector<BackendCase> backend_cases() {
    return {{"reference", [](int) { return make_reference_backend(); }},
            {"cpu", [](int num_threads) { return make_cpu_backend(num_threads); }}};
}

Batch make_batch(int64_t vocabulary_size, int64_t sequences, int64_t time, uint64_t seed) {
    Batch batch{sequences, time, {}, {}};
    std::mt19937_64 random(seed);
    for (int64_t i = 0; i < sequences * time; ++i) {
        const auto v = static_cast<uint64_t>(vocabulary_size);
        batch.tokens.push_back(static_cast<int32_t>(random() % v));
        batch.targets.push_back(i % 7 == 3 ? -1 : static_cast<int32_t>(random() % v));
    }
    return batch;
}

TinyModel::TinyModel(const ModelConfig& model_config, std::unique_ptr<Backend> model_backend,
                     DType compute_dtype, Recompute recompute)
    : config(model_config),
      backend(std::move(model_backend)),
      layout(config),
      compute(compute_dtype),
      params(config, layout, *backend, compute, 1),
      transformer(config, layout, *backend, compute, recompute) {}

std::vector<double> TinyModel::forward_backward(const Batch& batch, float loss_scale) {
    const Shape shape = {batch.sequences, batch.time};
    const Buffer losses =
        backend->allocate(shape, accumulation_dtype(compute), MemoryCategory::workspace);
    transformer.forward_backward(params, upload(batch.tokens, shape), upload(batch.targets, shape),
                                 loss_scale, losses);
    uploads_.clear();
    return to_host(*backend, losses);
}

std::vector<double> TinyModel::evaluate(const Batch& batch) {
    const Shape shape = {batch.sequences, batch.time};
    const Buffer losses =
        backend->allocate(shape, accumulation_dtype(compute), MemoryCategory::workspace);
    transformer.evaluate(params, upload(batch.tokens, shape), upload(batch.targets, shape), losses);
    uploads_.clear();
    return to_host(*backend, losses);
}

std::vector<double> TinyModel::logits(const Batch& batch) {
    const Buffer logits =
        backend->allocate({batch.sequences, batch.time, config.padded_vocabulary()},
                          accumulation_dtype(compute), MemoryCategory::workspace);
    transformer.logits(params, upload(batch.tokens, {batch.sequences, batch.time}), logits);
    uploads_.clear();
    return to_host(*backend, logits);
}

std::vector<double> TinyModel::decode(KvCache& cache, const Batch& batch, int64_t begin,
                                      int64_t end) {
    std::vector<int32_t> tokens;
    for (int64_t b = 0; b < batch.sequences; ++b) {
        tokens.insert(tokens.end(), batch.tokens.begin() + b * batch.time + begin,
                      batch.tokens.begin() + b * batch.time + end);
    }
    const Buffer logits = backend->allocate({batch.sequences, config.padded_vocabulary()},
                                            accumulation_dtype(compute), MemoryCategory::workspace);
    transformer.decode(params, cache, upload(tokens, {batch.sequences, end - begin}), logits);
    uploads_.clear();
    return to_host(*backend, logits);
}

void TinyModel::randomize(uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    // Intermediates of size 1 everywhere: no softmax so sharp that it would magnify errors.
    const double weight_deviation = 1.0 / std::sqrt(static_cast<double>(config.channels));
    for (const ParamTensor& tensor : layout.tensors()) {
        const double deviation = tensor.decayed ? weight_deviation : 0.2;
        const std::span<double> values = params.values(tensor);
        for (double& value : values) {
            const bool padding = value == 0.0 && tensor.init_std > 0.0;
            const double raw = tensor.init_value + deviation * normal(random);
            value = padding ? 0.0 : static_cast<float>(bf16(static_cast<float>(raw)));
        }
    }
}

Tensor TinyModel::upload(const std::vector<int32_t>& values, Shape shape) {
    uploads_.push_back(backend->allocate(shape, DType::i32, MemoryCategory::workspace));
    backend->copy_from_host(uploads_.back(), values.data());
    return uploads_.back();
}

double norm(const std::vector<double>& a) {
    return distance(a, std::vector<double>(a.size(), 0.0));
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
    LATHE_CHECK(a.size() == b.size(), "{} and {} values", a.size(), b.size());
    double sum = 0.0;
    for (size_t i = 0; i < a.size(); ++i) {
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    }
    return std::sqrt(sum);
}

double global_norm(const Gradients& gradients) {
    double sum = 0.0;
    for (const auto& [name, values] : gradients) {
        sum += norm(values) * norm(values);
    }
    return std::sqrt(sum);
}

}  // namespace lathe
