// A recorded step is the planned one: as many operations, FLOPs and bytes. Recording changes no
// bit.
#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "kernels/cpu/cpu_backend.h"
#include "parallel/recorded_communicator.h"
#include "parallel/single_communicator.h"
#include "plan/dry_run.h"
#include "tests/plan/plans.h"
#include "tests/support/ranks.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_data.h"
#include "train/trainer.h"

namespace lathe::testing {
namespace {

struct Recorded {
    double operations = 0.0;
    double flops = 0.0;
    double bytes = 0.0;
    StepResult result;
};

class RecordedStep : public ::testing::Test {
  protected:
    RecordedStep() {
        write_token_data(folder_.path(), 200, 2000);
        dataset_ = std::make_unique<TokenDataset>(folder_.path(), "train");
        loader_ = std::make_unique<Loader>(*dataset_, 16, 1);
    }

    /// The third step.
    Recorded third_step(const RunConfig& config, DType compute, Backend& backend,
                        Communicator& world, bool record) {
        Trainer trainer(config, backend, compute, *loader_, world);
        trainer.initialize();
        trainer.step();
        trainer.step();
        const auto recorder = std::make_shared<WorkRecorder>();
        backend.set_recorder(record ? recorder : nullptr);
        Recorded recorded;
        recorded.result = trainer.step();
        backend.read_stamps();
        backend.set_recorder(nullptr);
        // What a plan counts as operations.
        const std::set<std::string> others = {
            "allocate",         "copy_from_host",         "copy_to_host",
            "wait for compute", "wait for communication", "all_to_all",
            "all_gather",       "all_gather_bytes",       "barrier"};
        for (const WorkRecord& one : recorder->records()) {
            if (!others.contains(one.work.name)) {
                recorded.operations += 1.0;
                recorded.flops += one.work.flops;
                recorded.bytes += one.work.bytes;
            }
        }
        return recorded;
    }

    static WorkTotals planned(const RunConfig& config, DType compute, int ranks, int rank) {
        Plan plan = {.config = config, .hardware = plain_cpu(), .ranks = ranks, .rank = rank};
        plan.config.device.dtype = compute == DType::bf16 ? ComputeDType::bf16 : ComputeDType::f32;
        return dry_run(plan).step;
    }

    TemporaryFolder folder_;
    std::unique_ptr<TokenDataset> dataset_;
    std::unique_ptr<Loader> loader_;
};

TEST_F(RecordedStep, IsThePlannedOneAndChangesNoBit) {
    for (RunConfig config : {small_llama(), small_gpt2(), small_bloom()}) {
        config.train.global_batch = 2;
        for (const DType compute : {DType::f32, DType::bf16}) {
            const auto world = make_single_communicator();
            const auto backend = make_cpu_backend(2);
            const Recorded recorded = third_step(config, compute, *backend, *world, true);
            const WorkTotals plan = planned(config, compute, 1, 0);
            EXPECT_EQ(recorded.operations, plan.num_operations);
            EXPECT_DOUBLE_EQ(recorded.flops, plan.flops);
            EXPECT_DOUBLE_EQ(recorded.bytes, plan.bytes);
            const Recorded plain = third_step(config, compute, *make_cpu_backend(2), *world, false);
            EXPECT_EQ(plain.operations, 0.0);
            EXPECT_EQ(plain.result.loss, recorded.result.loss);
            EXPECT_EQ(plain.result.gradient_norm, recorded.result.gradient_norm);
        }
    }
}

TEST_F(RecordedStep, IsThePlannedOneOnEachRank) {
    RunConfig config = small_llama();
    config.train.global_batch = 3;
    for (const int stage : {0, 3}) {
        config.parallel.zero_stage = stage;
        run_ranks(2, [&](Backend& backend, Communicator& world) {
            const auto recording = make_recorded_communicator(world, backend);
            const Recorded recorded = third_step(config, DType::f32, backend, *recording, true);
            const WorkTotals plan = planned(config, DType::f32, 2, world.rank());
            EXPECT_EQ(recorded.operations, plan.num_operations) << "stage " << stage;
            EXPECT_DOUBLE_EQ(recorded.flops, plan.flops) << "stage " << stage;
            EXPECT_DOUBLE_EQ(recorded.bytes, plan.bytes) << "stage " << stage;
        });
    }
}

}  // namespace
}  // namespace lathe::testing
