// The truth about planned memory: what a dry run says of each rank, by category and in total, is
// what the CPU backend measures when the same configuration trains, to the byte.
#include <gtest/gtest.h>

#include <memory>

#include "tests/plan/plans.h"
#include "tests/support/ranks.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_data.h"
#include "train/checkpoint_files.h"
#include "train/trainer.h"

namespace lathe::testing {
namespace {

/// As CheckpointWriter gathers them.
void gather_checkpoint_rows(Trainer& trainer, int ranks) {
    for (int unit = 0; unit < trainer.layout().num_units(); ++unit) {
        trainer.params().gather(unit, ParamState::parameters, unit % ranks);
        for (const OptimizerRow& row : optimizer_rows(trainer.params())) {
            trainer.params().gather(unit, row.state, unit % ranks);
        }
    }
}

class PlannedMemory : public ::testing::Test {
  protected:
    PlannedMemory() {
        write_token_data(folder_.path(), 200, 2000);
        dataset_ = std::make_unique<TokenDataset>(folder_.path(), "train");
        loader_ = std::make_unique<Loader>(*dataset_, 16, 1);
    }

    void compare(const RunConfig& config, DType compute, int ranks) {
        const std::string what = fmt::format(
            "{}, {} ranks, stage {}, shard size {}, {}, gradients in {}, micro-batch {} of {}, "
            "recompute {}, offload {}",
            name_of(compute), ranks, config.parallel.zero_stage, config.parallel.shard_size,
            config.parallel.reduction == Reduction::native ? "native" : "ordered",
            name_of(config.parallel.gradient_dtype), config.train.micro_batch,
            config.train.global_batch, static_cast<int>(config.train.recompute),
            config.parallel.offload == Offload::optimizer);
        std::vector<MemoryUsage> planned;
        for (int rank = 0; rank < ranks; ++rank) {
            Plan plan = {.config = config, .hardware = plain_cpu(), .ranks = ranks, .rank = rank};
            plan.config.device.dtype =
                compute == DType::bf16 ? ComputeDType::bf16 : ComputeDType::f32;
            plan.config.device.threads = 1;
            planned.push_back(dry_run(plan).memory);
        }
        run_ranks(ranks, [&](Backend& backend, Communicator& world) {
            Trainer trainer(config, backend, compute, *loader_, world);
            trainer.initialize();
            for (int step = 0; step < 3; ++step) {
                trainer.step();
            }
            gather_checkpoint_rows(trainer, ranks);
            const MemoryUsage measured = backend.memory();
            const MemoryUsage& plan = planned[static_cast<size_t>(world.rank())];
            for (size_t i = 0; i < measured.peak_bytes.size(); ++i) {
                EXPECT_EQ(plan.peak_bytes[i], measured.peak_bytes[i])
                    << name_of(static_cast<MemoryCategory>(i)) << " on rank " << world.rank()
                    << ": " << what;
            }
            EXPECT_EQ(plan.total_peak_bytes, measured.total_peak_bytes)
                << "rank " << world.rank() << ": " << what;
            EXPECT_EQ(plan.current_bytes, measured.current_bytes) << what;
        });
    }

    TemporaryFolder folder_;
    std::unique_ptr<TokenDataset> dataset_;
    std::unique_ptr<Loader> loader_;
};

TEST_F(PlannedMemory, IsMeasuredForModelsStagesAndRanks) {
    for (RunConfig config : {small_llama(), small_gpt2(), small_bloom()}) {
        for (const DType compute : {DType::f32, DType::bf16}) {
            for (const int ranks : {1, 2, 3}) {
                for (const int stage : {0, 1, 2, 3}) {
                    config.parallel.zero_stage = stage;
                    compare(config, compute, ranks);
                }
            }
        }
    }
}

TEST_F(PlannedMemory, IsMeasuredForRecomputation) {
    for (RunConfig config : {small_llama(), small_gpt2()}) {
        for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
            for (const int micro_batch : {1, 2, 4}) {
                config.train.recompute = recompute;
                config.train.micro_batch = micro_batch;
                compare(config, DType::bf16, 1);
                compare(config, DType::f32, 2);
            }
        }
    }
}

TEST_F(PlannedMemory, IsMeasuredForRoundsThatAreNotFull) {
    RunConfig config = small_llama();
    for (const int micro_batches : {1, 2, 5, 7}) {
        for (const int stage : {0, 3}) {
            config.train.global_batch = micro_batches;
            config.parallel.zero_stage = stage;
            compare(config, DType::f32, 3);
        }
    }
}

TEST_F(PlannedMemory, IsMeasuredForHybridShardingAndNativeReduction) {
    RunConfig config = small_gpt2();
    for (const int shard_size : {1, 2, 4}) {
        for (const int stage : {1, 2, 3}) {
            for (const Reduction reduction : {Reduction::ordered, Reduction::native}) {
                for (const DType gradient : {DType::f32, DType::bf16}) {
                    config.parallel.shard_size = shard_size;
                    config.parallel.zero_stage = stage;
                    config.parallel.reduction = reduction;
                    config.parallel.gradient_dtype = gradient;
                    compare(config, DType::bf16, 4);
                }
            }
        }
    }
}

TEST_F(PlannedMemory, IsMeasuredForSmallBucketsWithoutPrefetchAndOffloaded) {
    RunConfig config = small_llama();
    config.parallel.bucket_elements = 5000;
    config.parallel.prefetch = false;
    for (const int stage : {0, 1, 3}) {
        config.parallel.zero_stage = stage;
        compare(config, DType::bf16, 3);
    }
    config.parallel.offload = Offload::optimizer;
    config.parallel.offload_folder = folder_.path();
    for (const int stage : {0, 1, 3}) {
        config.parallel.zero_stage = stage;
        compare(config, DType::bf16, 3);
    }
}

}  // namespace
}  // namespace lathe::testing
