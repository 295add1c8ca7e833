// Recomputation changes memory and nothing else.
#include <gtest/gtest.h>

#include "tests/model/tiny_model.h"

namespace lathe {
namespace {

class RecomputeTest : public testing::TestWithParam<std::tuple<TinyCase, BackendCase, DType>> {};

TEST_P(RecomputeTest, GivesTheSameBits) {
    const auto& [tiny, device, dtype] = GetParam();
    const Batch batch = make_batch(tiny.config.vocabulary_size, 2, 7, 3);
    std::vector<double> losses;
    Gradients gradients;
    for (const Recompute mode : {Recompute::none, Recompute::selective, Recompute::full}) {
        TinyModel model(tiny.config, device.make(2), dtype, mode);
        model.randomize(5);
        const std::vector<double> mode_losses = model.forward_backward(batch);
        if (mode == Recompute::none) {
            losses = mode_losses;
            gradients = model.params.all_gradients();
            EXPECT_GT(global_norm(gradients), 0.0);
        } else {
            EXPECT_EQ(mode_losses, losses);
            EXPECT_EQ(model.params.all_gradients(), gradients);
        }
        EXPECT_EQ(model.evaluate(batch), losses);
    }
}

INSTANTIATE_TEST_SUITE_P(Families, RecomputeTest,
                         testing::Combine(testing::ValuesIn(tiny_cases()),
                                          testing::ValuesIn(backend_cases()),
                                          testing::Values(DType::f32, DType::bf16)),
                         [](const auto& test) {
                             return std::get<0>(test.param).name + "_" +
                                    std::get<1>(test.param).name + "_" +
                                    std::string(name_of(std::get<2>(test.param)));
                         });

class MemoryTest : public testing::TestWithParam<std::tuple<TinyCase, BackendCase>> {};

struct Peaks {
    int64_t training = 0;
    int64_t evaluation = 0;
};

int64_t activation_peak(const Backend& backend) {
    return backend.memory().peak_bytes[static_cast<size_t>(MemoryCategory::activations)];
}

/// Peak bytes of activations of a step and of an evaluation.
Peaks measure(ModelConfig config, const BackendCase& device, Recompute mode, int64_t layers,
              int64_t sequences, int64_t time) {
    config.layers = layers;
    config.sequence_length = time;
    TinyModel model(config, device.make(2), DType::f32, mode);
    const Batch batch = make_batch(config.vocabulary_size, sequences, time, 3);
    Peaks peaks;
    for (int step = 0; step < 2; ++step) {
        model.backend->reset_peaks();
        model.forward_backward(batch);
        const int64_t training = activation_peak(*model.backend);
        EXPECT_TRUE(step == 0 || training == peaks.training);
        peaks.training = training;
        EXPECT_EQ(
            model.backend->memory().current_bytes[static_cast<size_t>(MemoryCategory::activations)],
            0);
    }
    model.backend->reset_peaks();
    model.evaluate(batch);
    peaks.evaluation = activation_peak(*model.backend);
    return peaks;
}

TEST_P(MemoryTest, IsWhatBlockDocuments) {
    const auto& [tiny, device] = GetParam();
    const ModelConfig& c = tiny.config;
    const int64_t up = (c.mlp == MlpKind::swiglu ? 2 : 1) * c.feed_forward;
    const int64_t qkv = c.attention_heads().qkv_columns();
    const int64_t norms = c.norm == NormKind::layernorm ? 4 : 2;
    const int64_t expected[] = {
        4 * (5 * c.channels + qkv + up + c.feed_forward + c.heads + norms),
        4 * (3 * c.channels + qkv + up + c.heads + norms),
        4 * c.channels,
    };
    const int64_t sequences = 3;
    const int64_t time = 20;
    int64_t previous = std::numeric_limits<int64_t>::max();
    for (const Recompute mode : {Recompute::none, Recompute::selective, Recompute::full}) {
        const Peaks four = measure(c, device, mode, 4, sequences, time);
        const Peaks three = measure(c, device, mode, 3, sequences, time);
        EXPECT_EQ(four.training - three.training,
                  sequences * time * expected[static_cast<int>(mode)]);
        EXPECT_LT(four.training, previous);
        previous = four.training;
        // An evaluation keeps one block's at most, however many there are.
        EXPECT_EQ(four.evaluation, three.evaluation);
        EXPECT_LT(four.evaluation, four.training);
    }
}

INSTANTIATE_TEST_SUITE_P(Families, MemoryTest,
                         testing::Combine(testing::ValuesIn(tiny_cases()),
                                          testing::ValuesIn(backend_cases())),
                         [](const auto& test) {
                             return std::get<0>(test.param).name + "_" +
                                    std::get<1>(test.param).name;
                         });

}  // namespace
}  // namespace lathe
