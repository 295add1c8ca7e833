// What a rank's backend measures at the peak of training is what Lathe's own formulas say, to the
// byte.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "parallel/memory_formula.h"
#include "tests/support/ranks.h"
#include "tests/support/small_runs.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_data.h"
#include "train/trainer.h"

namespace lathe::testing {
namespace {

class FormulasOfMemory : public ::testing::Test {
  protected:
    FormulasOfMemory() {
        write_token_data(folder_.path(), 200, 2000);
        dataset_ = std::make_unique<TokenDataset>(folder_.path(), "train");
        loader_ = std::make_unique<Loader>(*dataset_, 16, 1);
    }

    /// Two steps on `ranks` ranks; every rank's peaks against the formulas.
    void compare(const RunConfig& config, DType compute, int ranks) {
        const std::string what = fmt::format(
            "{}, {} ranks, stage {}, shard size {}, {}, gradients in {}, {} micro-batches",
            name_of(compute), ranks, config.parallel.zero_stage, config.parallel.shard_size,
            config.parallel.reduction == Reduction::native ? "native" : "ordered",
            name_of(config.parallel.gradient_dtype), config.train.global_batch);
        run_ranks(ranks, [&](Backend& backend, Communicator& world) {
            Trainer trainer(config, backend, compute, *loader_, world);
            trainer.initialize();
            trainer.step();
            trainer.step();
            const RankMemory formula =
                rank_memory(config.model, config.parallel, compute,
                            config.train.global_batch / config.train.micro_batch,
                            {.rank = world.rank(), .world_size = world.size()});
            const MemoryUsage usage = backend.memory();
            EXPECT_EQ(usage.current_bytes[static_cast<size_t>(MemoryCategory::gradients)], 0)
                << "between steps: " << what;
            const auto expect = [&](MemoryCategory category, const MemoryShare& share) {
                EXPECT_EQ(usage.peak_bytes[static_cast<size_t>(category)], share.peak_bytes)
                    << name_of(category) << " on rank " << world.rank() << ": " << what;
                double sum = share.ideal_bytes + share.padding_bytes;
                for (const NamedBytes& staging : share.staging) {
                    sum += static_cast<double>(staging.bytes);
                }
                EXPECT_NEAR(sum, static_cast<double>(share.peak_bytes), 1e-3) << what;
            };
            expect(MemoryCategory::parameters, formula.parameters);
            expect(MemoryCategory::gradients, formula.gradients);
            expect(MemoryCategory::optimizer, formula.optimizer);
            expect(MemoryCategory::communication, formula.communication);
            expect(MemoryCategory::offloaded, formula.offloaded);
        });
    }

    TemporaryFolder folder_;
    std::unique_ptr<TokenDataset> dataset_;
    std::unique_ptr<Loader> loader_;
};

TEST_F(FormulasOfMemory, HoldForEveryStageAndNumberOfRanks) {
    for (RunConfig config : {small_llama(), small_gpt2()}) {
        for (const DType compute : {DType::f32, DType::bf16}) {
            for (const int ranks : {1, 2, 3, 4, 8}) {
                for (const int stage : {0, 1, 2, 3}) {
                    config.parallel.zero_stage = stage;
                    compare(config, compute, ranks);
                }
            }
        }
    }
}

TEST_F(FormulasOfMemory, HoldForHybridSharding) {
    RunConfig config = small_gpt2();
    for (const int shard_size : {1, 2, 3, 6}) {
        for (const int stage : {1, 3}) {
            config.parallel.zero_stage = stage;
            config.parallel.shard_size = shard_size;
            compare(config, DType::bf16, 6);
        }
    }
}

TEST_F(FormulasOfMemory, HoldForRoundsThatAreNotFull) {
    RunConfig config = small_llama();
    for (const int micro_batches : {1, 2, 5, 7}) {
        config.train.global_batch = micro_batches;
        for (const int stage : {0, 3}) {
            config.parallel.zero_stage = stage;
            compare(config, DType::f32, 3);
        }
    }
}

TEST_F(FormulasOfMemory, HoldForRoundedGradientsWithoutPrefetchAndSmallBuckets) {
    RunConfig config = small_gpt2();
    config.parallel.gradient_dtype = DType::bf16;
    config.parallel.prefetch = false;
    config.parallel.bucket_elements = 5000;
    for (const int ranks : {1, 3}) {
        for (const int stage : {0, 1, 3}) {
            config.parallel.zero_stage = stage;
            compare(config, DType::bf16, ranks);
        }
    }
}

TEST_F(FormulasOfMemory, HoldForOffloadedState) {
    RunConfig config = small_llama();
    config.parallel.offload = Offload::optimizer;
    config.parallel.offload_folder = folder_.path();
    for (const DType compute : {DType::f32, DType::bf16}) {
        for (const int stage : {0, 1, 3}) {
            config.parallel.zero_stage = stage;
            compare(config, compute, 3);
        }
    }
}

TEST_F(FormulasOfMemory, HoldForNativeReduction) {
    for (RunConfig config : {small_llama(), small_gpt2()}) {
        config.parallel.reduction = Reduction::native;
        for (const DType gradient : {DType::f32, DType::bf16}) {
            config.parallel.gradient_dtype = gradient;
            for (const int shard_size : {2, 4}) {
                config.parallel.shard_size = shard_size;
                for (const int stage : {0, 1, 2, 3}) {
                    config.parallel.zero_stage = stage;
                    for (const int micro_batches : {2, 8}) {
                        config.train.global_batch = micro_batches;
                        compare(config, DType::bf16, 4);
                    }
                }
            }
        }
    }
}

}  // namespace
}  // namespace lathe::testing
