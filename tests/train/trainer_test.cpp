// One step at a time: determinism, accumulation, clipping, what a NaN may not do, and what a
// checkpoint brings back.
#include "train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/files.h"
#include "parallel/single_communicator.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_data.h"
#include "tests/support/write_checkpoint.h"
#include "train/checkpoint.h"

namespace lathe::testing {
namespace {

RunConfig tiny_config() {
    RunConfig config;
    config.model = {.vocabulary_size = 70,
                    .sequence_length = 24,
                    .layers = 2,
                    .channels = 48,
                    .heads = 4,
                    .kv_heads = 2,
                    .feed_forward = 100};
    config.train.steps = 12;
    config.train.sequence_length = 24;
    config.train.micro_batch = 2;
    config.train.global_batch = 8;
    config.optimizer.learning_rate = 5e-3;
    return config;
}

std::vector<float> rows_of(Trainer& trainer, int unit, ParamState state) {
    return trainer.params().gather(unit, state, 0);
}

/// All rows of a state, for comparisons to the bit.
std::vector<float> rows(Trainer& trainer, ParamState state) {
    std::vector<float> all;
    for (int unit = 0; unit < trainer.layout().num_units(); ++unit) {
        const std::vector<float> row = rows_of(trainer, unit, state);
        all.insert(all.end(), row.begin(), row.end());
    }
    return all;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class TrainerTest : public ::testing::Test {
  protected:
    TrainerTest() {
        write_token_data(folder_.path(), 70, 4000);
        dataset_ = std::make_unique<TokenDataset>(folder_.path(), "train");
        loader_ = std::make_unique<Loader>(*dataset_, 24, 1);
    }

    struct Run {
        Run(const RunConfig& given, const Loader& loader, DType compute, int threads)
            : config(given),
              backend(make_cpu_backend(threads)),
              world(make_single_communicator()),
              trainer(config, *backend, compute, loader, *world) {
            trainer.initialize();
        }
        std::vector<double> losses(int steps) {
            std::vector<double> values;
            for (int i = 0; i < steps; ++i) {
                values.push_back(trainer.step().loss);
            }
            return values;
        }
        RunConfig config;
        std::unique_ptr<Backend> backend;
        std::unique_ptr<Communicator> world;
        Trainer trainer;
    };

    std::unique_ptr<Run> run(const RunConfig& config, DType compute = DType::f32, int threads = 1) {
        return std::make_unique<Run>(config, *loader_, compute, threads);
    }

    TemporaryFolder folder_;
    std::unique_ptr<TokenDataset> dataset_;
    std::unique_ptr<Loader> loader_;
};

TEST_F(TrainerTest, LearnsAndIsTheSameBitsAtAnyNumberOfThreads) {
    for (const DType compute : {DType::f32, DType::bf16}) {
        const auto one = run(tiny_config(), compute, 1);
        const std::vector<double> losses = one->losses(12);
        EXPECT_LT(losses.back(), losses.front() - 0.5);
        for (const int threads : {1, 2, 5}) {
            const auto other = run(tiny_config(), compute, threads);
            EXPECT_EQ(other->losses(12), losses) << name_of(compute) << ", threads " << threads;
            EXPECT_TRUE(same_bits(rows(other->trainer, ParamState::master),
                                  rows(one->trainer, ParamState::master)));
        }
    }
}

TEST_F(TrainerTest, MicroBatchesOfAnotherSizeGiveTheSameUpToRounding) {
    const auto small = run(tiny_config());
    RunConfig config = tiny_config();
    config.train.micro_batch = 8;
    const auto large = run(config);
    const StepResult a = small->trainer.step();
    const StepResult b = large->trainer.step();
    // A loss is a mean of 192 terms of about log(70), each right to a few f32 epsilons.
    EXPECT_NEAR(a.loss, b.loss, 8 * std::numeric_limits<float>::epsilon() * a.loss);
    // The gradient is a sum of 192 terms that cancel in part: sqrt(192) epsilon of the norm, with a
    // margin of 8.
    EXPECT_NEAR(a.gradient_norm, b.gradient_norm,
                8 * std::sqrt(192.0) * std::numeric_limits<float>::epsilon() * a.gradient_norm);
}

TEST_F(TrainerTest, WithBetasAtZeroTheMomentIsTheClippedGradient) {
    RunConfig config = tiny_config();
    config.optimizer.beta1 = 0.0;
    config.optimizer.beta2 = 0.0;
    config.optimizer.gradient_clip = 0.25;
    const auto clipped = run(config);
    const StepResult result = clipped->trainer.step();
    ASSERT_GT(result.gradient_norm, 0.25);
    double sum = 0.0;
    for (const float m : rows(clipped->trainer, ParamState::first_moment)) {
        sum += static_cast<double>(m) * m;
    }
    EXPECT_NEAR(std::sqrt(sum), 0.25, 0.25 * 4 * std::numeric_limits<float>::epsilon());

    config.optimizer.gradient_clip = 0.0;
    const auto free = run(config);
    EXPECT_EQ(free->trainer.step().gradient_norm, result.gradient_norm);
    sum = 0.0;
    for (const float m : rows(free->trainer, ParamState::first_moment)) {
        sum += static_cast<double>(m) * m;
    }
    EXPECT_NEAR(std::sqrt(sum), result.gradient_norm,
                result.gradient_norm * 4 * std::numeric_limits<float>::epsilon());
}

TEST_F(TrainerTest, WeightDecayTouchesMatricesOnly) {
    RunConfig config = tiny_config();
    config.optimizer.weight_decay = 0.0;
    const auto plain = run(config);
    config.optimizer.weight_decay = 0.5;
    const auto decayed = run(config);
    plain->trainer.step();
    decayed->trainer.step();
    const ParamLayout& layout = plain->trainer.layout();
    for (const ParamTensor& tensor : layout.tensors()) {
        const auto values = [&](Trainer& trainer) {
            const std::vector<float> row = rows_of(trainer, tensor.unit, ParamState::master);
            return std::vector<float>(row.begin() + tensor.offset,
                                      row.begin() + tensor.offset + tensor.shape.size());
        };
        const std::vector<float> a = values(plain->trainer);
        const std::vector<float> b = values(decayed->trainer);
        EXPECT_EQ(same_bits(a, b), tensor.shape.rank() == 1) << tensor.name;
    }
}

TEST_F(TrainerTest, GradientsRoundedToBf16ChangeTheSumButLittle) {
    RunConfig config = tiny_config();
    const auto exact = run(config);
    config.parallel.gradient_dtype = DType::bf16;
    const auto rounded = run(config);
    const double a = exact->trainer.step().gradient_norm;
    const double b = rounded->trainer.step().gradient_norm;
    EXPECT_NE(a, b);
    EXPECT_NEAR(a, b, a * 0x1p-8);
}

TEST_F(TrainerTest, ANanInAParameterNeverReachesTheOthers) {
    for (const DType compute : {DType::f32, DType::bf16}) {
        const auto hurt = run(tiny_config(), compute);
        Trainer& trainer = hurt->trainer;
        trainer.step();
        const ParamTensor& weight = *trainer.layout().find("blocks.1.mlp.down.weight");
        const std::vector<float> nan = {std::numeric_limits<float>::quiet_NaN()};
        std::vector<float> good(1);
        good = {rows_of(trainer, weight.unit,
                        ParamState::parameters)[static_cast<size_t>(weight.offset)]};
        trainer.params().write(weight.unit, ParamState::parameters, weight.offset, nan);
        const std::vector<float> masters = rows(trainer, ParamState::master);
        const std::vector<float> moments = rows(trainer, ParamState::second_moment);

        const StepResult result = trainer.step();
        ASSERT_TRUE(result.skipped());
        EXPECT_TRUE(result.bad_tensor.starts_with("blocks.1.mlp")) << result.bad_tensor;
        EXPECT_EQ(trainer.state().bad_steps, 1);
        EXPECT_EQ(trainer.state().updates, 1);
        EXPECT_TRUE(same_bits(rows(trainer, ParamState::master), masters));
        EXPECT_TRUE(same_bits(rows(trainer, ParamState::second_moment), moments));

        trainer.params().write(weight.unit, ParamState::parameters, weight.offset, good);
        EXPECT_FALSE(trainer.step().skipped());
        EXPECT_EQ(trainer.state().bad_steps, 0);
        EXPECT_EQ(trainer.state().step, 3);
    }
}

TEST_F(TrainerTest, ABadGradientIsNamedByItsTensor) {
    const auto store = run(tiny_config());
    ParamStore& params = store->trainer.params();
    const ParamLayout& layout = store->trainer.layout();
    const ParamTensor& bad = *layout.find("blocks.1.attention.output.weight");
    params.begin_round(1, 1);
    for (int unit = layout.num_units() - 1; unit >= 0; --unit) {
        const Tensor row = params.gradients(unit);
        store->backend->fill_zero(row, Stream::compute);
        if (unit == bad.unit) {
            const float infinity = std::numeric_limits<float>::infinity();
            store->backend->copy_from_host(row.slice(bad.offset + 7, bad.offset + 8), &infinity);
        }
        params.gradients_ready(unit);
    }
    EXPECT_FALSE(std::isfinite(params.squared_gradient_norm()));
    EXPECT_EQ(params.first_bad_gradient(), bad.name);
    params.discard_gradients();
}

TEST_F(TrainerTest, ACheckpointBringsBackEveryBit) {
    write_file(folder_ / "tokenizer.json", "{}");
    for (const DType compute : {DType::f32, DType::bf16}) {
        RunConfig config = tiny_config();
        config.optimizer.stochastic_rounding = compute == DType::bf16;
        const auto first = run(config, compute);
        first->losses(5);
        const std::string path = folder_ / fmt::format("checkpoint-{}", name_of(compute));
        write_checkpoint(path, first->trainer, config, compute, folder_ / "tokenizer.json");
        const auto second = run(config, compute, 2);
        load_checkpoint(path, verify_checkpoint(path, second->trainer.world()), second->trainer);
        EXPECT_EQ(second->trainer.state(), first->trainer.state());
        for (const ParamState state : {ParamState::parameters, ParamState::master,
                                       ParamState::first_moment, ParamState::second_moment}) {
            EXPECT_TRUE(same_bits(rows(second->trainer, state), rows(first->trainer, state)));
        }
        EXPECT_EQ(second->losses(5), first->losses(5));
    }
}

TEST_F(TrainerTest, ASteadyStepAllocatesNothingNew) {
    const auto steady = run(tiny_config(), DType::bf16);
    steady->losses(2);
    const MemoryUsage before = steady->backend->memory();
    steady->losses(3);
    const MemoryUsage after = steady->backend->memory();
    EXPECT_EQ(after.total_bytes, before.total_bytes);
    EXPECT_EQ(after.total_peak_bytes, before.total_peak_bytes);
}

}  // namespace
}  // namespace lathe::testing
