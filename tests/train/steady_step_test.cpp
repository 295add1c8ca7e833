// A steady step takes no memory from the system, makes no oneDNN primitive and, on one rank, takes
// hardly anything from the heap: counted, not timed.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_backend_impl.h"
#include "parallel/single_communicator.h"
#include "tests/support/allocation_counter.h"
#include "tests/support/ranks.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_data.h"
#include "train/generation.h"
#include "train/trainer.h"

namespace lathe::testing {
namespace {

constexpr int64_t kVocabulary = 200;
constexpr int64_t kTime = 64;

/// Sizes at which products are tiled, not multiplied a few rows at a time, and buffers are beyond
/// the smallest.
ModelConfig llama() {
    return {.vocabulary_size = kVocabulary,
            .sequence_length = kTime,
            .layers = 3,
            .channels = 128,
            .heads = 4,
            .kv_heads = 2,
            .feed_forward = 320};
}

ModelConfig gpt2() {
    ModelConfig config = llama();
    config.kv_heads = config.heads;
    config.norm = NormKind::layernorm;
    config.positions = Positions::learned;
    config.mlp = MlpKind::gelu_tanh;
    config.biases = Biases::all;
    config.tied_embeddings = true;
    return config;
}

struct Counts {
    Allocations allocations;
    int64_t primitives = 0;

    int64_t own() const { return allocations.heap - allocations.onednn; }
};

Counts counts(Backend& backend) {
    return {.allocations = allocations(),
            .primitives = dynamic_cast<cpu::CpuBackend&>(backend).num_primitives_created()};
}

/// What `work` takes, by differences.
template <typename Work>
Counts taken_by(Backend& backend, const Work& work) {
    const Counts before = counts(backend);
    work();
    const Counts after = counts(backend);
    return {.allocations = {.heap = after.allocations.heap - before.allocations.heap,
                            .onednn = after.allocations.onednn - before.allocations.onednn,
                            .system = after.allocations.system - before.allocations.system},
            .primitives = after.primitives - before.primitives};
}

struct Case {
    std::string name;
    ModelConfig model;
    DType compute;

    friend void PrintTo(const Case& tested, std::ostream* out) { *out << tested.name; }
};

std::vector<Case> cases() {
    std::vector<Case> all;
    for (const DType compute : {DType::f32, DType::bf16}) {
        all.push_back({fmt::format("llama_{}", name_of(compute)), llama(), compute});
        all.push_back({fmt::format("gpt2_{}", name_of(compute)), gpt2(), compute});
    }
    return all;
}

class SteadyStep : public ::testing::TestWithParam<Case> {
  protected:
    SteadyStep() {
        write_token_data(folder_.path(), kVocabulary, 20000);
        dataset_ = std::make_unique<TokenDataset>(folder_.path(), "train");
        loader_ = std::make_unique<Loader>(*dataset_, kTime, 1);
    }

    RunConfig config(int64_t global_batch, int zero_stage = 0) const {
        RunConfig config;
        config.model = GetParam().model;
        config.train.steps = 100;
        config.train.sequence_length = kTime;
        config.train.micro_batch = 2;
        config.train.global_batch = global_batch;
        config.parallel.zero_stage = zero_stage;
        return config;
    }

    TemporaryFolder folder_;
    std::unique_ptr<TokenDataset> dataset_;
    std::unique_ptr<Loader> loader_;
};

constexpr int kWarmUp = 3;
/// Small lists are all that a step takes from the heap (the memory pool's free ranges, pieces of
/// the optimizer's rows): far less than one allocation for each of its operations.
constexpr int64_t kFewOfAStep = 16;
constexpr int64_t kFewOfAMicroBatch = 20;
constexpr int64_t kFewOfAToken = 3;

TEST_P(SteadyStep, OfOneRankTakesHardlyAnything) {
    for (const int64_t global_batch : {2, 6}) {
        const RunConfig run = config(global_batch);
        const auto backend = make_cpu_backend(2);
        const auto world = make_single_communicator();
        Trainer trainer(run, *backend, GetParam().compute, *loader_, *world);
        trainer.initialize();
        for (int i = 0; i < kWarmUp; ++i) {
            trainer.step();
        }
        for (int i = 0; i < 3; ++i) {
            const Counts step = taken_by(*backend, [&] { trainer.step(); });
            EXPECT_EQ(step.primitives, 0);
            EXPECT_EQ(step.allocations.system, 0);
            EXPECT_LE(step.own(), kFewOfAStep + kFewOfAMicroBatch * (global_batch / 2));
        }
    }
}

TEST_P(SteadyStep, OfTwoRanksTakesNothingFromTheSystem) {
    for (const int zero_stage : {0, 3}) {
        const RunConfig run = config(8, zero_stage);
        run_ranks(2, [&](Backend& backend, Communicator& world) {
            Trainer trainer(run, backend, GetParam().compute, *loader_, world);
            trainer.initialize();
            for (int i = 0; i < kWarmUp; ++i) {
                trainer.step();
            }
            // Either rank may still be in the step before: so may what it takes.
            world.barrier({.tensor = "warm", .step = 0});
            const Counts steps = taken_by(backend, [&] {
                for (int i = 0; i < 3; ++i) {
                    trainer.step();
                }
            });
            EXPECT_EQ(steps.primitives, 0);
            EXPECT_EQ(steps.allocations.system, 0);
        });
    }
}

TEST_P(SteadyStep, OfGenerationTakesHardlyAnything) {
    const RunConfig run = config(2);
    const auto backend = make_cpu_backend(2);
    const auto world = make_single_communicator();
    Trainer trainer(run, *backend, GetParam().compute, *loader_, *world);
    trainer.initialize();
    Generator generator(*backend, trainer.model(), trainer.params(), kVocabulary, kTime);
    std::vector<Counts> after;
    after.reserve(kTime);
    generator.run({1, 2, 3}, kTime - 3, {.temperature = 0.9, .top_p = 0.9}, 0, [&](int32_t) {
        after.push_back(counts(*backend));
        return true;
    });
    for (size_t i = kWarmUp + 1; i < after.size(); ++i) {
        EXPECT_EQ(after[i].primitives, after[i - 1].primitives) << i;
        EXPECT_EQ(after[i].allocations.system, after[i - 1].allocations.system) << i;
        EXPECT_LE(after[i].own() - after[i - 1].own(), kFewOfAToken) << i;
    }
}

INSTANTIATE_TEST_SUITE_P(Models, SteadyStep, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace lathe::testing
