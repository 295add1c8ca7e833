// The hand-written backward of whole models against finite differences of the loss, in f64.
#include <gtest/gtest.h>

#include <random>

#include "kernels/reference/reference_backend.h"
#include "tests/model/tiny_model.h"

namespace lathe {
namespace {

constexpr float kLossScale = 0.125F;
constexpr double kStep = 5e-4;

class GradientTest : public testing::TestWithParam<TinyCase> {};

double scaled_loss(TinyModel& model, const Batch& batch) {
    double sum = 0.0;
    for (const double loss : model.evaluate(batch)) {
        sum += loss;
    }
    return kLossScale * sum;
}

struct Difference {
    double derivative = 0.0;
    double truncation = 0.0;  ///< how far it may be from the derivative, rounding aside
};

/// The loss's derivative along a direction of one tensor, by the five-point rule, whose error is
/// O(h^4): with twice the step it is 16 times as large, so the two differ by 15 times the error.
Difference difference(TinyModel& model, const Batch& batch, const ParamTensor& tensor,
                      const std::vector<double>& direction) {
    const std::span<double> values = model.params.values(tensor);
    const std::vector<double> original(values.begin(), values.end());
    const auto central = [&](double step) {
        double loss[2];
        for (const int side : {0, 1}) {
            for (size_t i = 0; i < original.size(); ++i) {
                values[i] = original[i] + (side == 0 ? -step : step) * direction[i];
            }
            loss[side] = scaled_loss(model, batch);
        }
        return (loss[1] - loss[0]) / (2.0 * step);
    };
    const double one = central(kStep);
    const double two = central(2.0 * kStep);
    const double four = central(4.0 * kStep);
    std::copy(original.begin(), original.end(), values.begin());
    const double derivative = (4.0 * one - two) / 3.0;
    return {derivative, std::abs(derivative - (4.0 * two - four) / 3.0)};
}

/// Unit vectors along some elements, and two dense directions of length 1.
std::vector<std::vector<double>> directions(const ModelConfig& config, const ParamTensor& tensor,
                                            std::mt19937_64& random) {
    const auto size = static_cast<size_t>(tensor.shape.size());
    std::vector<std::vector<double>> all;
    for (int i = 0; i < 6; ++i) {
        all.emplace_back(size, 0.0);
        all.back()[random() % size] = 1.0;
    }
    std::normal_distribution<double> normal;
    for (int i = 0; i < 2; ++i) {
        all.emplace_back(size);
        for (double& value : all.back()) {
            value = normal(random);
        }
        const double length = norm(all.back());
        for (double& value : all.back()) {
            value /= length;
        }
    }
    // The vocabulary's padding has no say in the loss: neither moves it nor is moved.
    if (tensor.shape[0] == config.padded_vocabulary()) {
        all.emplace_back(size, 0.0);
        std::fill(all.back().begin() + config.vocabulary_size * config.channels, all.back().end(),
                  1.0);
    }
    return all;
}

TEST_P(GradientTest, EqualsFiniteDifferences) {
    const ModelConfig& config = GetParam().config;
    TinyModel model(config, make_reference_backend(), DType::f64);
    model.randomize(5);
    const Batch batch = make_batch(config.vocabulary_size, 2, 7, 3);
    const double loss = [&] {
        double sum = 0.0;
        for (const double value : model.forward_backward(batch, kLossScale)) {
            sum += kLossScale * value;
        }
        return sum;
    }();
    EXPECT_TRUE(model.params.all_released());
    const Gradients gradients = model.params.all_gradients();
    // Each loss is wrong by a few hundred roundings that mostly cancel, say 32 epsilon of its size,
    // and the rule multiplies a loss by at most 4 / 3 x 1 / 2 h, four times.
    const double rounding = 32.0 * std::numeric_limits<double>::epsilon() * loss * 3.0 / kStep;
    std::mt19937_64 random(11);
    for (const ParamTensor& tensor : model.layout.tensors()) {
        const std::vector<double>& gradient = gradients.at(tensor.name);
        for (const std::vector<double>& direction : directions(config, tensor, random)) {
            double expected = 0.0;
            for (size_t i = 0; i < gradient.size(); ++i) {
                expected += gradient[i] * direction[i];
            }
            const Difference measured = difference(model, batch, tensor, direction);
            EXPECT_NEAR(measured.derivative, expected, measured.truncation + rounding)
                << tensor.name;
        }
    }
}

TEST_P(GradientTest, OfPaddingAndUnusedPositionsIsZero) {
    const ModelConfig& config = GetParam().config;
    TinyModel model(config, make_reference_backend(), DType::f32);
    model.randomize(5);
    model.forward_backward(make_batch(config.vocabulary_size, 2, 4, 3));
    for (const ParamTensor& tensor : model.layout.tensors()) {
        const std::vector<double> gradient = model.params.gradient(tensor);
        int64_t first_zero_row = tensor.shape[0];
        if (tensor.shape[0] == config.padded_vocabulary()) {
            first_zero_row = config.vocabulary_size;
        } else if (tensor.name == "embedding.positions") {
            first_zero_row = 4;
        }
        for (size_t i = 0; i < gradient.size(); ++i) {
            ASSERT_TRUE(std::isfinite(gradient[i])) << tensor.name;
            if (static_cast<int64_t>(i) >= first_zero_row * tensor.shape.size() / tensor.shape[0]) {
                ASSERT_EQ(gradient[i], 0.0) << tensor.name << " element " << i;
            }
        }
    }
}

TEST_P(GradientTest, IsAnnouncedUnitByUnitFromTheEnd) {
    TinyModel model(GetParam().config, make_reference_backend(), DType::f32);
    model.forward_backward(make_batch(model.config.vocabulary_size, 1, 3, 3));
    EXPECT_EQ(model.params.ready_order(), (std::vector<int>{3, 2, 1, 0}));
}

TEST_P(GradientTest, IgnoredTargetsGiveNothing) {
    TinyModel model(GetParam().config, make_reference_backend(), DType::f64);
    model.randomize(5);
    Batch batch = make_batch(model.config.vocabulary_size, 2, 5, 3);
    std::fill(batch.targets.begin(), batch.targets.end(), -1);
    for (const double loss : model.forward_backward(batch)) {
        EXPECT_EQ(loss, 0.0);
    }
    EXPECT_EQ(global_norm(model.params.all_gradients()), 0.0);
}

TEST_P(GradientTest, OfABatchIsTheSumOverItsSequences) {
    TinyModel model(GetParam().config, make_reference_backend(), DType::f64);
    model.randomize(5);
    const Batch batch = make_batch(model.config.vocabulary_size, 3, 5, 3);
    const std::vector<double> losses = model.forward_backward(batch);
    const Gradients whole = model.params.all_gradients();
    Gradients sum;
    for (int64_t b = 0; b < 3; ++b) {
        const Batch one = {1,
                           5,
                           {batch.tokens.begin() + 5 * b, batch.tokens.begin() + 5 * b + 5},
                           {batch.targets.begin() + 5 * b, batch.targets.begin() + 5 * b + 5}};
        const std::vector<double> loss = model.forward_backward(one);
        for (size_t t = 0; t < 5; ++t) {
            EXPECT_NEAR(loss[t], losses[static_cast<size_t>(5 * b) + t], 1e-12);
        }
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

INSTANTIATE_TEST_SUITE_P(Families, GradientTest, testing::ValuesIn(tiny_cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace lathe
