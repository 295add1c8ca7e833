#include "train/generation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/random.h"
#include "model/kv_cache.h"

namespace lathe {
namespace {

/// The first of the greatest logits.
size_t most_probable(std::span<const float> logits, int64_t position) {
    size_t best = 0;
    bool is_number = true;
    for (size_t i = 0; i < logits.size(); ++i) {
        is_number &= !std::isnan(logits[i]);
        best = logits[i] > logits[best] ? i : best;
    }
    LATHE_CHECK(is_number && std::isfinite(logits[best]),
                "the model's logits are not finite at position {}", position);
    return best;
}

/// Orders ids; ties by rising id.
struct ByFallingLogit {
    std::span<const float> logits;

    bool operator()(int32_t a, int32_t b) const {
        const float x = logits[static_cast<size_t>(a)];
        const float y = logits[static_cast<size_t>(b)];
        return x != y ? x > y : a < b;
    }
};

/// A uniform number in [0, 1) with 53 random bits.
double uniform(uint64_t seed, uint64_t stream, int64_t position) {
    const auto bits = philox4x32(seed, static_cast<uint64_t>(position), stream);
    return static_cast<double>(((uint64_t{bits[0]} << 32) | bits[1]) >> 11) * 0x1p-53;
}

}  // namespace

void SamplingOptions::validate() const {
    LATHE_CHECK_USAGE(std::isfinite(temperature) && temperature >= 0.0,
                      "--temperature {}: must be 0 (greedy) or a positive number", temperature);
    LATHE_CHECK_USAGE(top_k >= 0, "--top-k {}: must be 0 (all tokens) or positive", top_k);
    LATHE_CHECK_USAGE(top_p > 0.0 && top_p <= 1.0, "--top-p {}: must be above 0 and at most 1",
                      top_p);
}

int32_t Sampler::draw(std::span<const float> logits, uint64_t stream, int64_t position) {
    const size_t best = most_probable(logits, position);
    if (options_.temperature == 0.0) {
        return static_cast<int32_t>(best);
    }
    top_ = logits[best];
    const double total = options_.top_k > 0 ? keep_most_probable(logits) : keep_likely(logits);
    size_t count = 0;
    double kept = 0.0;
    while (count < ids_.size() && kept < options_.top_p * total) {
        kept += weight(logits[static_cast<size_t>(ids_[count++])]);
    }
    double left = uniform(options_.seed, stream, position) * kept;
    for (size_t i = 0; i < count; ++i) {
        left -= weight(logits[static_cast<size_t>(ids_[i])]);
        if (left < 0.0) {
            return ids_[i];
        }
    }
    return ids_[count - 1];
}

/// Proportional to the probability; 1 for the most probable token.
double Sampler::weight(float logit) const {
    return std::exp((static_cast<double>(logit) - top_) / options_.temperature);
}

/// ids_ = the k most probable, in order. Returns their weight.
double Sampler::keep_most_probable(std::span<const float> logits) {
    ids_.resize(logits.size());
    std::iota(ids_.begin(), ids_.end(), 0);
    const auto kept = std::min<int64_t>(options_.top_k, std::ssize(ids_));
    std::partial_sort(ids_.begin(), ids_.begin() + kept, ids_.end(), ByFallingLogit{logits});
    ids_.resize(static_cast<size_t>(kept));
    double total = 0.0;
    for (const int32_t id : ids_) {
        total += weight(logits[static_cast<size_t>(id)]);
    }
    return total;
}

/// ids_ = tokens, in order, that weigh at least top-p of the whole, whose weight is returned. Not
/// all are sorted, as that would take as long as the model: only those near the top, where mostly
/// few hold almost everything.
double Sampler::keep_likely(std::span<const float> logits) {
    double total = 0.0;
    for (const float logit : logits) {
        total += weight(logit);
    }
    double kept = 0.0;
    ids_.clear();
    for (double reach = 4.0; ids_.size() < logits.size() && kept < options_.top_p * total;
         reach *= 2.0) {
        const double least = top_ - reach * options_.temperature;
        ids_.clear();
        kept = 0.0;
        for (size_t i = 0; i < logits.size(); ++i) {
            if (logits[i] >= least) {
                ids_.push_back(static_cast<int32_t>(i));
                kept += weight(logits[i]);
            }
        }
    }
    // Whom nothing cuts off may come in any order.
    if (options_.top_p < 1.0) {
        std::sort(ids_.begin(), ids_.end(), ByFallingLogit{logits});
    }
    return total;
}

Generator::Generator(Backend& backend, Transformer& model, ParamAccess& params, int64_t vocabulary,
                     int64_t positions)
    : backend_(backend),
      model_(model),
      params_(params),
      vocabulary_(vocabulary),
      positions_(positions),
      logits_(backend.allocate({1, model.config().padded_vocabulary()}, DType::f32,
                               MemoryCategory::activations)),
      host_logits_(static_cast<size_t>(logits_.tensor().size())) {}

void Generator::feed(KvCache& cache, std::span<const int32_t> tokens) {
    const auto count = static_cast<int64_t>(tokens.size());
    const Buffer device = backend_.allocate({1, count}, DType::i32, MemoryCategory::activations);
    backend_.copy_from_host(device, tokens.data());
    model_.decode(params_, cache, device, logits_);
    backend_.copy_to_host(host_logits_.data(), logits_);
}

void Generator::run(std::vector<int32_t> context, int64_t count, const SamplingOptions& options,
                    uint64_t stream, const std::function<bool(int32_t)>& emit) {
    LATHE_CHECK(!context.empty(), "generation needs at least one token to start from");
    const std::unique_ptr<KvCache> cache = model_.make_cache(1, positions_);
    Sampler sampler(options);
    context.reserve(static_cast<size_t>(std::max(std::ssize(context), positions_) + 1));
    const auto logits =
        std::span<const float>(host_logits_).first(static_cast<size_t>(vocabulary_));
    for (int64_t drawn = 0; drawn < count; ++drawn) {
        if (std::ssize(context) > positions_) {
            context.erase(context.begin(), context.end() - std::max<int64_t>(1, positions_ / 2));
            cache->clear();
        }
        feed(*cache, std::span(context).subspan(static_cast<size_t>(cache->length())));
        const int32_t token = sampler.draw(logits, stream, drawn);
        if (!emit(token)) {
            return;
        }
        context.push_back(token);
    }
}

}  // namespace lathe
