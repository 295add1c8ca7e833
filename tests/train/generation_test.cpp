// Drawing tokens: greedy, top-k, top-p, temperature, and that the draws follow the probabilities.
#include "train/generation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace lathe {
namespace {

const std::vector<float> kLogits = {0.0F, 2.0F, 1.0F, 2.0F, -1.0F};

std::set<int32_t> drawn(const SamplingOptions& options, int draws = 2000) {
    std::set<int32_t> tokens;
    for (int i = 0; i < draws; ++i) {
        tokens.insert(sample_token(kLogits, options, 0, i));
    }
    return tokens;
}

TEST(Sampling, GreedyTakesTheFirstOfTheMostProbable) {
    EXPECT_EQ(drawn({.temperature = 0.0}), (std::set<int32_t>{1}));
}

TEST(Sampling, TopKAndTopPCutTheTail) {
    EXPECT_EQ(drawn({.top_k = 3}), (std::set<int32_t>{1, 2, 3}));
    // Probabilities are 0.386, 0.386, 0.142, 0.052, 0.019, from the top: the first two pass 0.75.
    EXPECT_EQ(drawn({.top_p = 0.75}), (std::set<int32_t>{1, 3}));
    EXPECT_EQ(drawn({.top_k = 1}), (std::set<int32_t>{1}));
    EXPECT_EQ(drawn({.temperature = 2.0}), (std::set<int32_t>{0, 1, 2, 3, 4}));
}

TEST(Sampling, FrequenciesFollowTheSoftmax) {
    constexpr int kDraws = 40000;
    std::vector<int> counts(kLogits.size());
    for (int i = 0; i < kDraws; ++i) {
        ++counts[static_cast<size_t>(sample_token(kLogits, {.seed = 5}, 3, i))];
    }
    double total = 0.0;
    for (const float logit : kLogits) {
        total += std::exp(logit);
    }
    for (size_t i = 0; i < kLogits.size(); ++i) {
        const double p = std::exp(kLogits[i]) / total;
        // Five standard deviations of a binomial count.
        EXPECT_NEAR(counts[i], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p)));
    }
}

TEST(Sampling, DrawsArePureFunctionsOfSeedStreamAndPosition) {
    const SamplingOptions options{.seed = 9};
    int differ_by_stream = 0;
    int differ_by_seed = 0;
    for (int i = 0; i < 200; ++i) {
        const int32_t token = sample_token(kLogits, options, 1, i);
        EXPECT_EQ(sample_token(kLogits, options, 1, i), token);
        differ_by_stream += sample_token(kLogits, options, 2, i) != token;
        differ_by_seed += sample_token(kLogits, {.seed = 10}, 1, i) != token;
    }
    EXPECT_GT(differ_by_stream, 50);
    EXPECT_GT(differ_by_seed, 50);
}

TEST(Sampling, BadOptionsAreNamed) {
    EXPECT_THROW(SamplingOptions{.temperature = -1.0}.validate(), UsageError);
    EXPECT_THROW(SamplingOptions{.top_k = -1}.validate(), UsageError);
    EXPECT_THROW(SamplingOptions{.top_p = 0.0}.validate(), UsageError);
    const std::vector<float> bad = {NAN, NAN};
    EXPECT_THROW(sample_token(bad, {}, 0, 0), Error);
}

}  // namespace
}  // namespace lathe
