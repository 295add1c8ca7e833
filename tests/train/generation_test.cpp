// Drawing tokens: greedy, top-k, top-p, temperature, and that the draws follow the probabilities.
#include "train/generation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "tests/support/simple_params.h"

namespace lathe {
namespace {

const std::vector<float> kLogits = {0.0F, 2.0F, 1.0F, 2.0F, -1.0F};

std::set<int32_t> drawn(const SamplingOptions& options, int draws = 2000) {
    std::set<int32_t> tokens;
    Sampler sampler(options);
    for (int i = 0; i < draws; ++i) {
        tokens.insert(sampler.draw(kLogits, 0, i));
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
    Sampler sampler({.seed = 5});
    for (int i = 0; i < kDraws; ++i) {
        ++counts[static_cast<size_t>(sampler.draw(kLogits, 3, i))];
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
    Sampler sampler({.seed = 9});
    Sampler other({.seed = 10});
    int differ_by_stream = 0;
    int differ_by_seed = 0;
    for (int i = 0; i < 200; ++i) {
        const int32_t token = sampler.draw(kLogits, 1, i);
        EXPECT_EQ(sampler.draw(kLogits, 1, i), token);
        differ_by_stream += sampler.draw(kLogits, 2, i) != token;
        differ_by_seed += other.draw(kLogits, 1, i) != token;
    }
    EXPECT_GT(differ_by_stream, 50);
    EXPECT_GT(differ_by_seed, 50);
}

TEST(Sampling, BadOptionsAreNamed) {
    EXPECT_THROW(SamplingOptions{.temperature = -1.0}.validate(), UsageError);
    EXPECT_THROW(SamplingOptions{.top_k = -1}.validate(), UsageError);
    EXPECT_THROW(SamplingOptions{.top_p = 0.0}.validate(), UsageError);
    for (const double temperature : {0.0, 1.0}) {
        for (const std::vector<float>& bad : {std::vector<float>{NAN, NAN},
                                              {1.0F, NAN},
                                              {HUGE_VALF, 0.0F},
                                              {-HUGE_VALF, -HUGE_VALF}}) {
            EXPECT_THROW(Sampler({.temperature = temperature}).draw(bad, 0, 0), Error);
        }
        EXPECT_EQ(Sampler({.temperature = temperature}).draw(std::vector{-HUGE_VALF, 0.0F}, 0, 0),
                  1);
    }
}

/// Logits of many tokens, some equal, spread over `width` nats.
std::vector<float> many_logits(float width) {
    std::vector<float> logits(5000);
    for (size_t i = 0; i < logits.size(); ++i) {
        logits[i] = width * static_cast<float>(i * 2654435769U % 1024) / 1024.0F;
    }
    return logits;
}

TEST(Sampling, OfManyTokensTopPKeepsWhatSortingAllKeeps) {
    // From nearly equal probabilities to one token that has almost all.
    for (const float width : {0.1F, 8.0F, 100.0F, 4000.0F}) {
        const std::vector<float> logits = many_logits(width);
        std::vector<int32_t> ids(logits.size());
        std::iota(ids.begin(), ids.end(), 0);
        std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
            return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
        });
        const auto weight = [&](int32_t id) {
            return std::exp(double{logits[static_cast<size_t>(id)]} -
                            logits[static_cast<size_t>(ids[0])]);
        };
        double total = 0.0;
        for (const int32_t id : ids) {
            total += weight(id);
        }
        for (const double top_p : {0.3, 0.9}) {
            std::set<int32_t> kept;
            double mass = 0.0;
            for (size_t i = 0; mass < top_p * total; ++i) {
                mass += weight(ids[i]);
                kept.insert(ids[i]);
            }
            Sampler sampler({.top_p = top_p});
            std::set<int32_t> seen;
            for (int i = 0; i < 3000; ++i) {
                seen.insert(sampler.draw(logits, 0, i));
            }
            EXPECT_TRUE(std::includes(kept.begin(), kept.end(), seen.begin(), seen.end()));
            // All of a few equal ones; of many, most of those that 3,000 draws can find.
            EXPECT_GT(seen.size(), kept.size() < 20 ? kept.size() - 1 : kept.size() / 4) << width;
        }
    }
}

TEST(Generation, DrawsOnlyTheTokenizersTokensOfALargerVocabulary) {
    const ModelConfig config{.vocabulary_size = 200,
                             .sequence_length = 8,
                             .layers = 1,
                             .channels = 16,
                             .heads = 2,
                             .kv_heads = 2,
                             .feed_forward = 24};
    const auto backend = make_cpu_backend(1);
    const ParamLayout layout(config);
    SimpleParams params(config, layout, *backend, DType::f32, 1);
    Transformer model(config, layout, *backend, DType::f32, Recompute::none);
    Generator generator(*backend, model, params, 50, config.sequence_length);
    int count = 0;
    generator.run({3}, 100, {}, 0, [&](int32_t token) {
        EXPECT_LT(token, 50);
        ++count;
        return true;
    });
    EXPECT_EQ(count, 100) << "more than the context holds";
}

}  // namespace
}  // namespace lathe
