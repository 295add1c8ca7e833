// What a Transformer promises whatever its family: causality, any shapes, chunks, the probe,
// learning.
#include "model/transformer.h"

#include <gtest/gtest.h>

#include <set>

#include "kernels/reference/reference_backend.h"
#include "tests/model/tiny_model.h"

namespace lathe {
namespace {

class TransformerTest : public testing::TestWithParam<TinyCase> {};

/// Columns [begin, end) of a batch.
Batch columns(const Batch& batch, int64_t begin, int64_t end) {
    Batch part{batch.sequences, end - begin, {}, {}};
    for (int64_t b = 0; b < batch.sequences; ++b) {
        for (int64_t t = begin; t < end; ++t) {
            const auto i = static_cast<size_t>(b * batch.time + t);
            part.tokens.push_back(batch.tokens[i]);
            part.targets.push_back(batch.targets[i]);
        }
    }
    return part;
}

TEST_P(TransformerTest, LossesDoNotDependOnLaterTokens) {
    TinyModel model(GetParam().config, make_reference_backend(), DType::f64);
    model.randomize(5);
    const Batch batch = make_batch(model.config.vocabulary_size, 2, 9, 3);
    const std::vector<double> whole = model.evaluate(batch);
    for (const int64_t time : {1, 2, 5, 8}) {
        const std::vector<double> part = model.forward_backward(columns(batch, 0, time));
        for (int64_t b = 0; b < 2; ++b) {
            for (int64_t t = 0; t < time; ++t) {
                EXPECT_NEAR(part[static_cast<size_t>(b * time + t)],
                            whole[static_cast<size_t>(b * 9 + t)], 1e-12);
            }
        }
    }
}

TEST_P(TransformerTest, LossesAreTheCrossEntropyOfTheLogits) {
    TinyModel model(GetParam().config, make_reference_backend(), DType::f64);
    model.randomize(5);
    const Batch batch = make_batch(model.config.vocabulary_size, 2, 5, 3);
    const std::vector<double> losses = model.evaluate(batch);
    const std::vector<double> logits = model.logits(batch);
    for (size_t row = 0; row < losses.size(); ++row) {
        const double* z = &logits[row * static_cast<size_t>(model.config.padded_vocabulary())];
        double sum = 0.0;
        for (int64_t v = 0; v < model.config.vocabulary_size; ++v) {
            sum += std::exp(z[v]);
        }
        const int32_t target = batch.targets[row];
        EXPECT_NEAR(losses[row], target < 0 ? 0.0 : std::log(sum) - z[target], 1e-12);
    }
}

TEST_P(TransformerTest, LearnsOneBatchByHeart) {
    TinyModel model(GetParam().config, make_reference_backend(), DType::f32);
    const Batch batch = make_batch(model.config.vocabulary_size, 2, 7, 3);
    const auto mean = [&](const std::vector<double>& losses) {
        double sum = 0.0;
        for (const double loss : losses) {
            sum += loss / 12.0;  // two of the 14 targets are ignored
        }
        return sum;
    };
    const double before = mean(model.evaluate(batch));
    EXPECT_NEAR(before, std::log(static_cast<double>(model.config.vocabulary_size)), 0.6);
    for (int step = 0; step < 150; ++step) {
        model.forward_backward(batch, 1.0F / 12.0F);
        model.params.descend(0.5);
    }
    EXPECT_LT(mean(model.evaluate(batch)), 0.1 * before);
}

TEST_P(TransformerTest, ProbeSeesEveryIntermediateOnceAndFinite) {
    TinyModel model(GetParam().config, make_reference_backend(), DType::f32, Recompute::full);
    const Batch batch = make_batch(model.config.vocabulary_size, 2, 3, 3);
    std::vector<std::string> names;
    model.transformer.set_probe([&](std::string_view name, const Tensor& value) {
        names.emplace_back(name);
        for (const double x : to_host(*model.backend, value)) {
            ASSERT_TRUE(std::isfinite(x)) << name;
        }
    });
    model.forward_backward(batch);
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
    EXPECT_EQ(names.front(), "embedding.sum");
    EXPECT_EQ(names.back(), "head.losses");
    for (const char* name :
         {"blocks.0.attention_norm", "blocks.0.attention.qkv", "blocks.1.attention",
          "blocks.1.attention.output", "blocks.1.mlp_norm", "blocks.1.mlp.hidden",
          "blocks.1.mlp.down", "head.norm", "head.logits"}) {
        EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
    }
    model.transformer.set_probe({});
    names.clear();
    model.forward_backward(batch);
    EXPECT_TRUE(names.empty());
}

TEST_P(TransformerTest, ActivatesAsConfigured) {
    TinyModel model(GetParam().config, make_reference_backend(), DType::f64);
    model.randomize(5);
    std::map<std::string, std::vector<double>> seen;
    model.transformer.set_probe([&](std::string_view name, const Tensor& value) {
        seen[std::string(name)] = to_host(*model.backend, value);
    });
    model.forward_backward(make_batch(model.config.vocabulary_size, 2, 3, 3));
    const std::vector<double>& up = seen.at("blocks.1.mlp.up");
    const std::vector<double>& hidden = seen.at("blocks.1.mlp.hidden");
    const auto width = static_cast<size_t>(model.config.feed_forward);
    for (size_t i = 0; i < hidden.size(); ++i) {
        double expected = 0.0;
        if (model.config.mlp == MlpKind::swiglu) {
            const size_t gate = i / width * 2 * width + i % width;
            expected = up[gate] / (1.0 + std::exp(-up[gate])) * up[gate + width];
        } else if (model.config.mlp == MlpKind::gelu_exact) {
            expected = 0.5 * up[i] * std::erfc(-up[i] / std::sqrt(2.0));
        } else {
            const double cubic = up[i] + 0.044715 * up[i] * up[i] * up[i];
            expected = 0.5 * up[i] * (1.0 + std::tanh(std::sqrt(2.0 / std::acos(-1.0)) * cubic));
        }
        EXPECT_NEAR(hidden[i], expected, 1e-12);
    }
}

TEST_P(TransformerTest, RefusesTokensItHasNoPlaceFor) {
    TinyModel model(GetParam().config, make_reference_backend(), DType::f32);
    EXPECT_THROW(model.evaluate(make_batch(37, 1, 10, 3)), Error);
    EXPECT_THROW(model.forward_backward(make_batch(37, 1, 10, 3)), Error);
    EXPECT_THROW(model.evaluate(make_batch(37, 0, 5, 3)), Error);
}

INSTANTIATE_TEST_SUITE_P(Families, TransformerTest, testing::ValuesIn(tiny_cases()),
                         [](const auto& test) { return test.param.name; });

TEST(HeadTest, ChunksOfRowsAddUp) {
    // 600 rows of 4,160 logits are cut in chunks of 512 and 88; 200 rows are not cut.
    ModelConfig config = tiny_cases()[0].config;
    config.layers = 1;
    config.vocabulary_size = 4100;
    config.sequence_length = 200;
    ASSERT_EQ(head_chunk_rows(600, config.padded_vocabulary()), 512);
    ASSERT_EQ(head_chunk_rows(200, config.padded_vocabulary()), 200);
    ASSERT_EQ(head_chunk_rows(4096, 32000), 1024) << "no cache holds 512 rows, 128 MiB hold 1,024";
    ASSERT_EQ(head_chunk_rows(4096, 50304), 512);
    TinyModel model(config, make_reference_backend(), DType::f64);
    model.randomize(5);
    const Batch batch = make_batch(config.vocabulary_size, 3, 200, 3);
    const std::vector<double> losses = model.forward_backward(batch);
    EXPECT_EQ(model.evaluate(batch), losses);
    const Gradients whole = model.params.all_gradients();
    Gradients sum;
    for (int64_t b = 0; b < 3; ++b) {
        const auto begin = 200 * b;
        model.forward_backward(
            {1,
             200,
             {batch.tokens.begin() + begin, batch.tokens.begin() + begin + 200},
             {batch.targets.begin() + begin, batch.targets.begin() + begin + 200}});
        for (const auto& [name, values] : model.params.all_gradients()) {
            std::vector<double>& total = sum[name];
            total.resize(values.size());
            for (size_t i = 0; i < values.size(); ++i) {
                total[i] += values[i];
            }
        }
    }
    for (const auto& [name, values] : whole) {
        EXPECT_LE(distance(values, sum.at(name)), 1e-12 * global_norm(whole)) << name;
    }
}

}  // namespace
}  // namespace lathe
