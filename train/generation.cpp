#include "train/generation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/random.h"
#include "model/kv_cache.h"

namespace lathe {
namespace {

/// The ids by falling logit (ties by rising id), only as many as top-k leaves.
std::vector<int32_t> ranked(std::span<const float> logits, int64_t top_k) {
    std::vector<int32_t> ids(logits.size());
    std::iota(ids.begin(), ids.end(), 0);
    const auto kept =
        top_k > 0 ? std::min<size_t>(static_cast<size_t>(top_k), ids.size()) : ids.size();
    std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(kept), ids.end(),
                      [&](int32_t a, int32_t b) {
                          const float x = logits[static_cast<size_t>(a)];
                          const float y = logits[static_cast<size_t>(b)];
                          return x != y ? x > y : a < b;
                      });
    ids.resize(kept);
    return ids;
}

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

int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, uint64_t stream,
                     int64_t position) {
    const std::vector<int32_t> ids = ranked(logits, options.temperature == 0.0 ? 1 : options.top_k);
    const double top = logits[static_cast<size_t>(ids.front())];
    LATHE_CHECK(std::isfinite(top), "the model's logits are not finite at position {}", position);
    if (options.temperature == 0.0) {
        return ids.front();
    }
    std::vector<double> weights;
    double total = 0.0;
    for (const int32_t id : ids) {
        weights.push_back(std::exp((static_cast<double>(logits[static_cast<size_t>(id)]) - top) /
                                   options.temperature));
        total += weights.back();
    }
    double kept = 0.0;
    size_t count = 0;
    while (count < weights.size() && kept < options.top_p * total) {
        kept += weights[count++];
    }
    double left = uniform(options.seed, stream, position) * kept;
    for (size_t i = 0; i < count; ++i) {
        left -= weights[i];
        if (left < 0.0) {
            return ids[i];
        }
    }
    return ids[count - 1];
}

Generator::Generator(Backend& backend, Transformer& model, ParamAccess& params, int64_t vocabulary,
                     int64_t positions)
    : backend_(backend),
      model_(model),
      params_(params),
      vocabulary_(vocabulary),
      positions_(positions),
      logits_(backend.allocate({1, (vocabulary + 63) / 64 * 64}, DType::f32,
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
    std::unique_ptr<KvCache> cache = model_.make_cache(1, positions_);
    size_t fed = 0;
    for (int64_t drawn = 0; drawn < count; ++drawn) {
        if (static_cast<int64_t>(context.size()) > positions_) {
            context.erase(context.begin(), context.end() - std::max<int64_t>(1, positions_ / 2));
            cache = model_.make_cache(1, positions_);
            fed = 0;
        }
        feed(*cache, std::span(context).subspan(fed));
        fed = context.size();
        const auto logits =
            std::span<const float>(host_logits_).first(static_cast<size_t>(vocabulary_));
        const int32_t token = sample_token(logits, options, stream, drawn);
        if (!emit(token)) {
            return;
        }
        context.push_back(token);
    }
}

}  // namespace lathe
