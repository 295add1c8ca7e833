// Tiny models of each family and everything a test needs to run one.
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "model/transformer.h"
#include "tests/support/simple_params.h"

namespace lathe {

struct TinyCase {
    std::string name;
    ModelConfig config;

    /// How GoogleTest shows it.
    friend void PrintTo(const TinyCase& tiny, std::ostream* out) { *out << tiny.name; }
};

/// GPT-2, Llama (grouped queries), Qwen2 (biases of qkv, tied), BLOOM (ALiBi with 3 heads,
/// embedding norm), and an untied one with the exact GELU and a vocabulary of 64, which is not
/// padded: two layers, sizes that no vector width divides.
std::vector<TinyCase> tiny_cases();

/// A backend to test on.
struct BackendCase {
    std::string name;
    std::unique_ptr<Backend> (*make)(int num_threads);

    friend void PrintTo(const BackendCase& device, std::ostream* out) { *out << device.name; }
};
std::vector<BackendCase> backend_cases();

/// A batch of tokens and targets; one target in seven is ignored (-1).
struct Batch {
    int64_t sequences = 0;
    int64_t time = 0;
    std::vector<int32_t> tokens;
    std::vector<int32_t> targets;
};
Batch make_batch(int64_t vocabulary_size, int64_t sequences, int64_t time, uint64_t seed);

/// A model on a backend with its parameters, and what it computed.
class TinyModel {
  public:
    TinyModel(const ModelConfig& config, std::unique_ptr<Backend> backend, DType compute,
              Recompute recompute = Recompute::none);

    /// Runs one micro-batch; returns its losses.
    std::vector<double> forward_backward(const Batch& batch, float loss_scale = 1.0F);
    std::vector<double> evaluate(const Batch& batch);
    /// [B, T, V'] values.
    std::vector<double> logits(const Batch& batch);
    /// Feeds columns [begin, end) of the batch's tokens; [B, V'] values.
    std::vector<double> decode(KvCache& cache, const Batch& batch, int64_t begin, int64_t end);
    /// Makes every parameter, norms and biases too, a random number worth differentiating by, and a
    /// number that bf16 holds exactly.
    void randomize(uint64_t seed);

    Tensor upload(const std::vector<int32_t>& values, Shape shape);

    const ModelConfig config;
    const std::unique_ptr<Backend> backend;
    const ParamLayout layout;
    const DType compute;
    SimpleParams params;
    Transformer transformer;

  private:
    std::vector<Buffer> uploads_;
};

/// |a - b|_2.
double distance(const std::vector<double>& a, const std::vector<double>& b);
/// |a|_2.
double norm(const std::vector<double>& a);

using Gradients = std::map<std::string, std::vector<double>>;
/// Norm of all gradients together.
double global_norm(const Gradients& gradients);

}  // namespace lathe
