// Generation with a key/value cache against whole forward passes.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/model/tiny_model.h"

namespace lathe {
namespace {

class DecodeTest : public testing::TestWithParam<std::tuple<TinyCase, BackendCase>> {};

/// Row `t` of each sequence's [B, T, V'] logits.
std::vector<double> at_time(const std::vector<double>& logits, const Batch& batch, int64_t t) {
    const size_t columns = logits.size() / static_cast<size_t>(batch.sequences * batch.time);
    std::vector<double> rows;
    for (int64_t b = 0; b < batch.sequences; ++b) {
        const auto begin = logits.begin() + (b * batch.time + t) * static_cast<int64_t>(columns);
        rows.insert(rows.end(), begin, begin + static_cast<int64_t>(columns));
    }
    return rows;
}

/// How far f32 logits made in two orders of addition may be apart. Each of some 16 stages of a
/// block adds its own error to the residual stream: at most sqrt(K) epsilon of its size for sums
/// of K terms, in random directions.
double tolerance(const ModelConfig& config, const std::vector<double>& logits) {
    const double stages = 16.0 * static_cast<double>(config.layers) + 8.0;
    const auto longest = static_cast<double>(std::max(config.channels, config.feed_forward));
    return 2.0 * 6e-8 * std::sqrt(stages * longest) * norm(logits);
}

TEST_P(DecodeTest, InPiecesEqualsTheWhole) {
    const auto& [tiny, device] = GetParam();
    TinyModel model(tiny.config, device.make(2), DType::f32);
    model.randomize(5);
    const Batch batch = make_batch(tiny.config.vocabulary_size, 2, 9, 3);
    const std::vector<double> whole = model.logits(batch);
    const auto cache = model.transformer.make_cache(2, 9);
    int64_t begin = 0;
    for (const int64_t end : {1, 4, 8, 9}) {
        const std::vector<double> last = model.decode(*cache, batch, begin, end);
        const std::vector<double> expected = at_time(whole, batch, end - 1);
        EXPECT_LE(distance(last, expected), tolerance(tiny.config, expected)) << end;
        EXPECT_EQ(cache->length(), end);
        begin = end;
    }
    EXPECT_TRUE(model.params.all_released());
}

int32_t best_token(const ModelConfig& config, const std::vector<double>& logits) {
    return static_cast<int32_t>(
        std::max_element(logits.begin(), logits.begin() + config.vocabulary_size) - logits.begin());
}

TEST_P(DecodeTest, GreedyTokensAreThoseWithoutACache) {
    const auto& [tiny, device] = GetParam();
    TinyModel model(tiny.config, device.make(2), DType::f32);
    model.randomize(6);
    const Batch prompt = make_batch(tiny.config.vocabulary_size, 1, 2, 3);

    Batch cached = prompt;
    const auto cache = model.transformer.make_cache(1, 9);
    while (cached.time < 9) {
        const std::vector<double> logits =
            model.decode(*cache, cached, cache->length(), cached.time);
        cached.tokens.push_back(best_token(tiny.config, logits));
        ++cached.time;
    }
    Batch whole = prompt;
    while (whole.time < 9) {
        const std::vector<double> logits = at_time(model.logits(whole), whole, whole.time - 1);
        whole.tokens.push_back(best_token(tiny.config, logits));
        ++whole.time;
    }
    EXPECT_EQ(cached.tokens, whole.tokens);
}

TEST_P(DecodeTest, RefusesMoreThanTheCacheHolds) {
    const auto& [tiny, device] = GetParam();
    TinyModel model(tiny.config, device.make(1), DType::f32);
    EXPECT_THROW(model.transformer.make_cache(1, 10), UsageError);
    EXPECT_THROW(model.transformer.make_cache(0, 5), UsageError);
    const auto cache = model.transformer.make_cache(1, 5);
    const Batch batch = make_batch(tiny.config.vocabulary_size, 1, 9, 3);
    model.decode(*cache, batch, 0, 4);
    EXPECT_THROW(model.decode(*cache, batch, 4, 6), Error);
    model.decode(*cache, batch, 4, 5);
    EXPECT_THROW(model.decode(*cache, batch, 5, 6), Error);
}

INSTANTIATE_TEST_SUITE_P(Families, DecodeTest,
                         testing::Combine(testing::ValuesIn(tiny_cases()),
                                          testing::ValuesIn(backend_cases())),
                         [](const auto& test) {
                             return std::get<0>(test.param).name + "_" +
                                    std::get<1>(test.param).name;
                         });

}  // namespace
}  // namespace lathe
