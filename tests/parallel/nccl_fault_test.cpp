// What a job of three GPUs does when a rank fails: it ends, soon, with one line that tells why and
// an exit code that is not 0, and nothing is left behind. As mpi_fault_test, but a collective that
// waits on a GPU ends by nothing but NCCL's abort.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "kernels/cuda/cuda_backend.h"
#include "tests/support/job.h"

namespace lathe::testing {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::MatchesRegex;

/// How a line that tells of a failure begins. Rank 1 fails in step 3; that the others were told of
/// the call before by it may have been under way.
constexpr const char* kCall =
    "lathe: rank 0: all_reduce number [0-9]+ \\(\"gradients of head\", step [123]\\) ";
constexpr const char* kWaited =
    "has waited 3 s for rank 1: died, hanging, or slower than --collective-timeout allows";

constexpr int kRanks = 3;
constexpr int kFaultyRank = 1;
/// Where the timeout is what ends the job, and where it must not be.
constexpr double kShort_s = 3;
constexpr double kLong_s = 300;
/// Far above what an ending takes, far below a hang.
constexpr double kBound_s = 60;

class NcclFault : public ::testing::Test {
  protected:
    void SetUp() override {
        if (count_cuda_devices() < kRanks) {
            GTEST_SKIP() << "needs " << kRanks << " GPUs";
        }
    }

    static JobResult run_job(const std::string& fault, double timeout_s = kLong_s) {
        static int num_jobs = 0;
        const std::string mark = fmt::format("mark-{}-{}", getpid(), ++num_jobs);
        const JobResult job = testing::run_job(
            {"-n", std::to_string(kRanks), LATHE_CUDA_RUNNER, LATHE_FAULTY_RANK, fault,
             std::to_string(kFaultyRank), std::to_string(timeout_s), "cuda", mark},
            mark, kBound_s);
        EXPECT_TRUE(job.in_time) << fault;
        EXPECT_EQ(job.num_left, 0) << fault;
        return job;
    }
};

TEST_F(NcclFault, NoneEndsWell) {
    const JobResult job = run_job("none");
    EXPECT_EQ(job.exit_code, 0);
    EXPECT_THAT(job.told, ElementsAre());
}

TEST_F(NcclFault, KilledRankIsNamed) {
    const JobResult job = run_job("kill");
    EXPECT_NE(job.exit_code, 0);
    EXPECT_THAT(job.told,
                ElementsAre(MatchesRegex(std::string(kCall) + "waits for rank 1, which died")))
        << job.errors;
}

TEST_F(NcclFault, StoppedRankIsNamed) {
    const JobResult job = run_job("stop", kShort_s);
    EXPECT_EQ(job.exit_code, 1);
    EXPECT_THAT(job.told, ElementsAre(MatchesRegex(std::string(kCall) + kWaited))) << job.errors;
}

TEST_F(NcclFault, HangingRankIsNamed) {
    const JobResult job = run_job("hang", kShort_s);
    EXPECT_EQ(job.exit_code, 1);
    EXPECT_THAT(job.told, ElementsAre(MatchesRegex(std::string(kCall) + kWaited))) << job.errors;
}

/// What NCCL says may come before the timeout.
TEST_F(NcclFault, RankThatLeavesEarlyIsNamed) {
    const JobResult job = run_job("return", kShort_s);
    EXPECT_NE(job.exit_code, 0);
    EXPECT_THAT(job.told,
                ElementsAre(AnyOf(MatchesRegex(std::string(kCall) + kWaited),
                                  MatchesRegex(std::string(kCall) +
                                               "(waits for|with) ranks 1 and 2: NCCL: remote .*"))))
        << job.errors;
}

TEST_F(NcclFault, RankThatThrowsTellsWhy) {
    const JobResult job = run_job("fail");
    EXPECT_EQ(job.exit_code, 1);
    EXPECT_THAT(job.told, ElementsAre("lathe: rank 1: the disk is full")) << job.errors;
}

TEST_F(NcclFault, MismatchNamesBothOperations) {
    const JobResult job = run_job("mismatch");
    EXPECT_EQ(job.exit_code, 1);
    EXPECT_THAT(job.told,
                ElementsAre(MatchesRegex(
                    "lathe: rank 0: the ranks differ: rank 0 calls all_reduce number [0-9]+ "
                    "\\(\"gradients of head\", step 3, .*, but rank 1 calls barrier number [0-9]+ "
                    "\\(\"elsewhere\", step 3\\)")))
        << job.errors;
}

}  // namespace
}  // namespace lathe::testing
