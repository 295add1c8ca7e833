// Generation: tokens drawn one after another from a model with a key/value cache.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "model/transformer.h"

namespace lathe {

struct SamplingOptions {
    double temperature =
        1.0;             ///< logits are divided by it; 0: always the most probable token (greedy)
    int64_t top_k = 0;   ///< only the k most probable tokens; 0: all
    double top_p = 1.0;  ///< only the most probable tokens that together reach p (arXiv 1904.09751)
    uint64_t seed = 1;

    /// Throws UsageError naming the option and its value.
    void validate() const;
};

/// Draws tokens; keeps its memory from one to the next.
class Sampler {
  public:
    explicit Sampler(const SamplingOptions& options) : options_(options) {}

    /// One token from logits[0, V). Top-k is applied first, then top-p to what is left,
    /// renormalised; ties go to the smaller id. The random number is a pure function of (seed,
    /// stream, position), so a sample can be made again.
    int32_t draw(std::span<const float> logits, uint64_t stream, int64_t position);

  private:
    double weight(float logit) const;
    double keep_most_probable(std::span<const float> logits);
    double keep_likely(std::span<const float> logits);

    SamplingOptions options_;
    float top_ = 0.0F;
    std::vector<int32_t> ids_;  ///< those that may be drawn, and perhaps some less probable ones
};

class Generator {
  public:
    /// `vocabulary`: only ids below it are drawn. `positions`: the longest context. `stream` tells
    /// several samples of one seed apart.
    Generator(Backend& backend, Transformer& model, ParamAccess& params, int64_t vocabulary,
              int64_t positions);

    /// Continues `prompt` (at least one token) by up to `count` tokens, giving each to `emit` as it
    /// is drawn, until emit returns false. When the context is full, its newer half is kept and
    /// read again.
    void run(std::vector<int32_t> prompt, int64_t count, const SamplingOptions& options,
             uint64_t stream, const std::function<bool(int32_t)>& emit);

  private:
    void feed(KvCache& cache, std::span<const int32_t> tokens);

    Backend& backend_;
    Transformer& model_;
    ParamAccess& params_;
    int64_t vocabulary_;
    int64_t positions_;
    Buffer logits_;
    std::vector<float> host_logits_;
};

}  // namespace lathe
