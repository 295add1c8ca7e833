// The layout is not a hyper-parameter: the same configuration gives the same bits on any number of
// ranks, at any ZeRO stage, shard size, bucket size, with and without prefetching, and when it goes
// on in another layout.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/files.h"
#include "tests/support/ranks.h"
#include "tests/support/slow_build.h"
#include "tests/support/small_runs.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_data.h"
#include "tests/support/write_checkpoint.h"
#include "train/checkpoint.h"
#include "train/trainer.h"

namespace lathe::testing {
namespace {

constexpr int kSteps = 3;
/// With sanitizers, which look for wrong accesses and not for bits, fewer.
const std::vector<int> kNumbersOfRanks =
    test::kSlowBuild ? std::vector{3, 8} : std::vector{2, 3, 4, 5, 7, 8, 10};

RunConfig clipped(RunConfig config) {
    config.train.micro_batch = 2;
    config.train.global_batch = 16;
    config.optimizer.learning_rate = 5e-3;
    config.optimizer.gradient_clip = 0.5;
    return config;
}
RunConfig llama() { return clipped(small_llama()); }
RunConfig gpt2() { return clipped(small_gpt2()); }

/// What must not depend on the layout.
struct Outcome {
    std::vector<double> losses;
    std::vector<double> norms;
    std::vector<float> rows;  ///< of all states and units

    bool operator==(const Outcome&) const = default;
};

double squared_norm(const std::vector<float>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0, [](double sum, float x) {
        return sum + static_cast<double>(x) * static_cast<double>(x);
    });
}

class Layout : public ::testing::Test {
  protected:
    Layout() {
        write_token_data(folder_.path(), 200, 4000);
        write_file(folder_ / "tokenizer.json", "{}");
        dataset_ = std::make_unique<TokenDataset>(folder_.path(), "train");
        loader_ = std::make_unique<Loader>(*dataset_, 16, 1);
    }

    /// Steps [from, to) on `num_ranks` ranks; continues the checkpoint of step `from` unless that
    /// is 0, and leaves one.
    Outcome run(const RunConfig& config, DType compute, int num_ranks, int from = 0,
                int to = kSteps, const RankOptions& options = {}) {
        Outcome outcome;
        run_ranks(
            num_ranks,
            [&](Backend& backend, Communicator& world) {
                Trainer trainer(config, backend, compute, *loader_, world);
                Outcome mine;
                if (from == 0) {
                    trainer.initialize();
                } else {
                    const auto path = checkpoint(from);
                    load_checkpoint(path, verify_checkpoint(path, world), trainer);
                }
                while (trainer.state().step < to) {
                    const StepResult result = trainer.step();
                    mine.losses.push_back(result.loss);
                    mine.norms.push_back(result.gradient_norm);
                }
                if (to != kSteps) {
                    write_checkpoint(checkpoint(to), trainer, config, compute,
                                     folder_ / "tokenizer.json");
                }
                for (int unit = 0; unit < trainer.layout().num_units(); ++unit) {
                    for (const ParamState state :
                         {ParamState::parameters, ParamState::master, ParamState::first_moment,
                          ParamState::second_moment}) {
                        const std::vector<float> row = trainer.params().gather(unit, state, 0);
                        mine.rows.insert(mine.rows.end(), row.begin(), row.end());
                    }
                }
                if (world.rank() == 0) {
                    outcome = mine;
                }
            },
            options);
        return outcome;
    }

    /// Each tensor's first moment after one step.
    std::map<std::string, std::vector<float>> gradients(const RunConfig& config, int num_ranks) {
        std::map<std::string, std::vector<float>> found;
        run_ranks(num_ranks, [&](Backend& backend, Communicator& world) {
            Trainer trainer(config, backend, DType::f32, *loader_, world);
            trainer.initialize();
            trainer.step();
            const ParamLayout& layout = trainer.layout();
            for (int unit = 0; unit < layout.num_units(); ++unit) {
                const auto row = trainer.params().gather(unit, ParamState::first_moment, 0);
                for (const ParamTensor& tensor : layout.tensors_of(unit)) {
                    if (world.rank() == 0) {
                        const auto begin = row.begin() + tensor.offset;
                        found[tensor.name].assign(begin, begin + tensor.shape.size());
                    }
                }
            }
        });
        return found;
    }

    std::filesystem::path checkpoint(int step) {
        return folder_.path() / fmt::format("checkpoint-{}", step);
    }

    TemporaryFolder folder_;
    std::unique_ptr<TokenDataset> dataset_;
    std::unique_ptr<Loader> loader_;
};

TEST_F(Layout, RanksAndStagesChangeNoBit) {
    for (const RunConfig& base : {llama(), gpt2()}) {
        for (const DType compute : {DType::f32, DType::bf16}) {
            const Outcome expected = run(base, compute, 1);
            for (const int ranks : kNumbersOfRanks) {
                for (const int stage : {0, 1, 2, 3}) {
                    RunConfig config = base;
                    config.parallel.zero_stage = stage;
                    EXPECT_TRUE(run(config, compute, ranks) == expected)
                        << name_of(compute) << ", " << ranks << " ranks, stage " << stage;
                }
            }
        }
    }
}

TEST_F(Layout, HybridShardSizesChangeNoBit) {
    for (RunConfig config : {llama(), gpt2()}) {
        for (const DType compute : {DType::f32, DType::bf16}) {
            config.parallel = {};
            const Outcome expected = run(config, compute, 1);
            for (const int shard_size : {1, 2, 3, 6}) {
                for (const int stage : {1, 3}) {
                    config.parallel.zero_stage = stage;
                    config.parallel.shard_size = shard_size;
                    EXPECT_TRUE(run(config, compute, 6) == expected)
                        << name_of(compute) << ", shard size " << shard_size << ", stage " << stage;
                }
            }
        }
    }
}

/// Bucket sizes from one element to the whole model; units gathered ahead or not; the communication
/// stream beside the compute stream or not; one and two threads a rank.
TEST_F(Layout, BucketsPrefetchOverlapAndThreadsChangeNoBit) {
    struct Kind {
        RunConfig config;
        DType compute;
        DType gradient;
    };
    for (const Kind& kind :
         {Kind{gpt2(), DType::f32, DType::f32}, Kind{gpt2(), DType::bf16, DType::bf16},
          Kind{llama(), DType::f32, DType::bf16}, Kind{llama(), DType::bf16, DType::f32}}) {
        RunConfig config = kind.config;
        config.parallel.gradient_dtype = kind.gradient;
        const Outcome expected = run(config, kind.compute, 1);
        config.parallel.zero_stage = 3;
        const auto expect_equal = [&](int ranks, const RankOptions& options) {
            EXPECT_TRUE(run(config, kind.compute, ranks, 0, kSteps, options) == expected)
                << name_of(kind.compute) << ", gradients in " << name_of(kind.gradient) << ", "
                << ranks << " ranks, " << options.threads << " threads, bucket of "
                << config.parallel.bucket_elements << ", prefetch " << config.parallel.prefetch
                << ", overlap " << options.overlap;
        };
        expect_equal(2, {.threads = 2});
        for (const bool overlap : {false, true}) {
            for (const bool prefetch : {false, true}) {
                config.parallel.prefetch = prefetch;
                for (const int64_t bucket :
                     {int64_t{1}, int64_t{5000}, int64_t{9000}, int64_t{1} << 30}) {
                    config.parallel.bucket_elements = bucket;
                    expect_equal(3, {.overlap = overlap});
                }
            }
        }
    }
}

TEST_F(Layout, ARunGoesOnInAnotherLayout) {
    for (RunConfig config : {llama(), gpt2()}) {
        for (const DType compute : {DType::f32, DType::bf16}) {
            config.parallel = {};
            const Outcome expected = run(config, compute, 1);
            const auto go_on = [&](int ranks, int stage, int shard_size, int from) {
                config.parallel.zero_stage = stage;
                config.parallel.shard_size = shard_size;
                return run(config, compute, ranks, from, from + 1);
            };
            go_on(8, 3, 4, 0);
            go_on(3, 1, 1, 1);
            const Outcome last = go_on(5, 2, 5, 2);
            EXPECT_EQ(last.losses.back(), expected.losses.back());
            EXPECT_TRUE(last.rows == expected.rows) << name_of(compute);
            std::filesystem::remove_all(checkpoint(1));
            std::filesystem::remove_all(checkpoint(2));
        }
    }
}

TEST_F(Layout, NativeReductionIsEqualUpToRounding) {
    RunConfig config = llama();
    const Outcome ordered = run(config, DType::f32, 1, 0, kSteps);
    config.parallel.reduction = Reduction::native;
    for (const int stage : {0, 1, 2, 3}) {
        for (const int shard_size : {2, 4}) {
            config.parallel.zero_stage = stage;
            config.parallel.shard_size = shard_size;
            const Outcome native = run(config, DType::f32, 4, 0, kSteps);
            // The first gradient differs only by the order of eight f32 additions an element.
            EXPECT_NEAR(native.norms[0], ordered.norms[0],
                        8 * std::numeric_limits<float>::epsilon() * ordered.norms[0]);
            EXPECT_NEAR(native.losses[0], ordered.losses[0], 1e-12);
        }
    }
}

/// With both betas at zero the first moment is the gradient that came to the optimizer.
TEST_F(Layout, EachTensorsGradientIsThatOfOneRank) {
    for (RunConfig config : {llama(), gpt2()}) {
        config.optimizer.beta1 = 0.0;
        config.optimizer.beta2 = 0.0;
        config.optimizer.gradient_clip = 0.0;
        const auto alone = gradients(config, 1);
        double global = 0.0;
        for (const auto& [name, gradient] : alone) {
            global += squared_norm(gradient);
        }
        for (const int ranks : {2, 3, 8}) {
            for (const int stage : {0, 1, 2, 3}) {
                config.parallel.zero_stage = stage;
                config.parallel.reduction = Reduction::ordered;
                EXPECT_TRUE(gradients(config, ranks) == alone) << ranks << ", stage " << stage;
                config.parallel.reduction = Reduction::native;
                for (const auto& [name, gradient] : gradients(config, ranks)) {
                    std::vector<float> difference = alone.at(name);
                    std::transform(gradient.begin(), gradient.end(), difference.begin(),
                                   difference.begin(), std::minus<>());
                    // Eight terms an element, added in another order: each sum rounds seven times,
                    // by half an epsilon of partial sums that the terms' size bounds.
                    const double bound =
                        8 * std::numeric_limits<float>::epsilon() *
                        std::sqrt(std::max(squared_norm(alone.at(name)), 1e-6 * global));
                    EXPECT_LE(std::sqrt(squared_norm(difference)), bound)
                        << name << ", " << ranks << " ranks, stage " << stage;
                }
            }
        }
    }
}

TEST_F(Layout, OffloadingChangesNoBit) {
    for (const DType compute : {DType::f32, DType::bf16}) {
        const Outcome expected = run(llama(), compute, 1);
        RunConfig config = llama();
        config.parallel.offload = Offload::optimizer;
        config.parallel.offload_folder = folder_.path();
        for (const int ranks : {1, 3, 8}) {
            for (const int stage : {0, 1, 2, 3}) {
                config.parallel.zero_stage = stage;
                EXPECT_TRUE(run(config, compute, ranks) == expected)
                    << name_of(compute) << ", " << ranks << " ranks, stage " << stage;
            }
        }
        run(config, compute, 4, 0, 1);
        run(llama(), compute, 2, 1, 2);
        config.parallel.zero_stage = 1;
        EXPECT_TRUE(run(config, compute, 3, 2, 3).rows == expected.rows)
            << name_of(compute) << ", begun and ended offloaded";
        std::filesystem::remove_all(checkpoint(1));
        std::filesystem::remove_all(checkpoint(2));
    }
}

TEST_F(Layout, OffloadedRowsLongerThanAWindowChangeNoBit) {
    RunConfig config = llama();
    config.model.layers = 1;
    config.model.channels = 640;
    config.model.feed_forward = 900;
    config.train.global_batch = 2;
    config.optimizer.stochastic_rounding = true;
    for (const DType compute : {DType::f32, DType::bf16}) {
        config.parallel = {};
        const Outcome expected = run(config, compute, 1, 0, 2);
        config.parallel.offload = Offload::optimizer;
        config.parallel.offload_folder = folder_.path();
        std::filesystem::remove_all(checkpoint(2));
        EXPECT_TRUE(run(config, compute, 1, 0, 2) == expected) << name_of(compute);
        std::filesystem::remove_all(checkpoint(2));
        config.parallel.zero_stage = 1;
        EXPECT_TRUE(run(config, compute, 2, 0, 2) == expected) << name_of(compute);
        std::filesystem::remove_all(checkpoint(2));
    }
}

TEST_F(Layout, ANanOnOneRankIsSkippedByAll) {
    RunConfig config = llama();
    config.parallel.zero_stage = 3;
    std::mutex mutex;
    std::vector<std::string> found;
    run_ranks(3, [&](Backend& backend, Communicator& world) {
        Trainer trainer(config, backend, DType::f32, *loader_, world);
        trainer.initialize();
        const ParamTensor& weight = *trainer.layout().find("blocks.1.mlp.up.weight");
        const std::vector<float> nan = {NAN};
        trainer.params().write(weight.unit, ParamState::parameters, weight.offset + 9, nan);
        const StepResult result = trainer.step();
        const std::scoped_lock lock(mutex);
        found.push_back(result.bad_tensor);
        EXPECT_EQ(trainer.state().updates, 0);
    });
    ASSERT_EQ(found.size(), 3U);
    EXPECT_TRUE(found[0].starts_with("blocks.1.mlp")) << found[0];
    EXPECT_EQ(found[1], found[0]);
    EXPECT_EQ(found[2], found[0]);
}

}  // namespace
}  // namespace lathe::testing
