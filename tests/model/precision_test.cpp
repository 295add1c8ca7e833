// The whole model on the fast backend: near the exact gradients, and the same bits on any number of
// threads.
#include <gtest/gtest.h>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/model/tiny_model.h"
#include "tests/support/slow_build.h"

namespace lathe {
namespace {

struct Result {
    std::vector<double> losses;
    Gradients gradients;
};

Result run(const ModelConfig& config, std::unique_ptr<Backend> backend, DType dtype,
           const Batch& batch) {
    TinyModel model(config, std::move(backend), dtype);
    model.randomize(5);
    Result result;
    result.losses = model.forward_backward(batch, 0.125F);
    result.gradients = model.params.all_gradients();
    return result;
}

/// A model wide enough for every vector path and blocking, with odd sizes.
ModelConfig wider(ModelConfig config) {
    config.vocabulary_size = 1001;
    config.sequence_length = 70;
    config.channels = 24 * config.heads;
    config.feed_forward = 200;
    return config;
}

class PrecisionTest : public testing::TestWithParam<TinyCase> {};

TEST_P(PrecisionTest, F32IsNearExact) {
    const ModelConfig config = wider(GetParam().config);
    const Batch batch = make_batch(config.vocabulary_size, 1, 67, 3);
    const Result exact = run(config, make_reference_backend(), DType::f64, batch);
    const Result fast = run(config, make_cpu_backend(2), DType::f32, batch);
    // Each of some 40 stages of a block, forward and backward, errs by at most sqrt(K) epsilon in
    // sums of K terms; stages err in random directions, and none magnifies what went before.
    const double stages = 40.0 * static_cast<double>(config.layers) + 10.0;
    const double tolerance = 6e-8 * std::sqrt(stages * 200.0);
    EXPECT_LE(distance(fast.losses, exact.losses), tolerance * norm(exact.losses));
    const double global = global_norm(exact.gradients);
    for (const auto& [name, gradient] : exact.gradients) {
        EXPECT_LE(distance(fast.gradients.at(name), gradient),
                  tolerance * std::max(norm(gradient), 1e-3 * global))
            << name;
    }
}

TEST_P(PrecisionTest, Bf16IsAsNearExactAsTheReference) {
    const ModelConfig config = wider(GetParam().config);
    const Batch batch = make_batch(config.vocabulary_size, 1, 67, 3);
    const Result exact = run(config, make_reference_backend(), DType::f64, batch);
    const Result reference = run(config, make_reference_backend(), DType::bf16, batch);
    const Result fast = run(config, make_cpu_backend(2), DType::bf16, batch);
    // The same values are rounded at the same places, so the errors are of one size, but different
    // ones where a sum in f32 tips a rounding: twice leaves room for chance in small tensors.
    EXPECT_LE(distance(fast.losses, exact.losses), 2.0 * distance(reference.losses, exact.losses));
    const double global = global_norm(exact.gradients);
    for (const auto& [name, gradient] : exact.gradients) {
        EXPECT_LE(distance(fast.gradients.at(name), gradient),
                  2.0 * distance(reference.gradients.at(name), gradient) + 1e-4 * global)
            << name;
    }
}

TEST_P(PrecisionTest, DoesNotDependOnThreads) {
    const ModelConfig config = wider(GetParam().config);
    const Batch batch = make_batch(config.vocabulary_size, test::kSlowBuild ? 2 : 9, 67, 3);
    for (const DType dtype : {DType::f32, DType::bf16}) {
        const Result one = run(config, make_cpu_backend(1), dtype, batch);
        for (const int threads : {2, 3, 8}) {
            const Result many = run(config, make_cpu_backend(threads), dtype, batch);
            EXPECT_EQ(many.losses, one.losses) << threads << " threads";
            for (const auto& [name, gradient] : one.gradients) {
                EXPECT_EQ(many.gradients.at(name), gradient)
                    << name << " " << threads << " threads";
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Families, PrecisionTest, testing::ValuesIn(tiny_cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace lathe
