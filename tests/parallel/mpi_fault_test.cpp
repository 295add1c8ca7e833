// What a job of three processes does when a rank fails: it ends, soon, with one line that tells why
// and an exit code that is not 0, and nothing is left behind.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "tests/support/job.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kFaultyRank = 1;
/// Where the timeout is what ends the job, and where it must not be.
constexpr double kShort_s = 2;
constexpr double kLong_s = 300;
/// Far above what an ending takes, far below a hang.
constexpr double kBound_s = 60;

JobResult run_job(const std::string& fault, const std::string& streams, double timeout_s = kLong_s,
                  int faulty_rank = kFaultyRank) {
    static int num_jobs = 0;
    const std::string mark = fmt::format("mark-{}-{}", getpid(), ++num_jobs);
    const JobResult job =
        testing::run_job({"-n", "3", LATHE_FAULTY_RANK, fault, std::to_string(faulty_rank),
                          std::to_string(timeout_s), streams, mark},
                         mark, kBound_s);
    EXPECT_TRUE(job.in_time) << fault;
    EXPECT_EQ(job.num_left, 0) << fault;
    return job;
}

class Fault : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(All, Fault, ::testing::Values("at_once", "overlapping"),
                         [](const auto& one) { return one.param; });

TEST_P(Fault, NoneEndsWell) {
    const JobResult job = run_job("none", GetParam());
    EXPECT_EQ(job.exit_code, 0);
    EXPECT_EQ(job.errors, "");
}

TEST_P(Fault, StoppedRankIsNamedByRank0) {
    const JobResult job = run_job("stop", GetParam(), kShort_s);
    EXPECT_EQ(job.exit_code, 1);
    EXPECT_THAT(job.told,
                ::testing::ElementsAre(
                    "lathe: rank 0: all_reduce number 3 (\"gradients of head\", step 3) has waited "
                    "2 s for rank 1: died, hanging, or slower than --collective-timeout allows"))
        << job.errors;
}

TEST(FaultAtOnce, StoppedRank0IsNamedByTheOthers) {
    const JobResult job = run_job("stop", "at_once", kShort_s, 0);
    EXPECT_EQ(job.exit_code, 1);
    EXPECT_THAT(job.told, ::testing::ElementsAre(AllOf(HasSubstr("lathe: rank 1: all_reduce"),
                                                       HasSubstr("for rank 0:"))))
        << job.errors;
}

TEST_P(Fault, RankThatThrowsTellsWhy) {
    const JobResult job = run_job("fail", GetParam());
    EXPECT_EQ(job.exit_code, 1);
    EXPECT_THAT(job.told, ::testing::ElementsAre("lathe: rank 1: the disk is full")) << job.errors;
}

TEST(FaultAtOnce, WhatAllRanksRefuseIsToldOnce) {
    const JobResult job = run_job("refuse", "at_once", kLong_s, -1);
    EXPECT_EQ(job.exit_code, 2);
    EXPECT_THAT(job.told, ::testing::ElementsAre("lathe: rank 0: steps = -1: must be positive"))
        << job.errors;
}

TEST_P(Fault, MismatchNamesBothOperations) {
    const JobResult job = run_job("mismatch", GetParam());
    EXPECT_EQ(job.exit_code, 1);
    EXPECT_THAT(job.told,
                ::testing::ElementsAre(AllOf(
                    HasSubstr("the ranks differ: rank 0 calls all_reduce number 3 (\"gradients of "
                              "head\", step 3"),
                    HasSubstr("rank 1 calls barrier number 3 (\"elsewhere\", step 3)"))))
        << job.errors;
}

TEST(FaultAtOnce, HangingRankIsNamed) {
    const JobResult job = run_job("hang", "at_once", kShort_s);
    EXPECT_EQ(job.exit_code, 1);
    EXPECT_THAT(job.told, ::testing::ElementsAre(HasSubstr("has waited 2 s for rank 1:")))
        << job.errors;
}

TEST(FaultAtOnce, RankThatLeavesEarlyIsNamed) {
    const JobResult job = run_job("return", "at_once", kShort_s);
    EXPECT_NE(job.exit_code, 0);
    EXPECT_THAT(job.told, ::testing::ElementsAre(HasSubstr("has waited 2 s for rank 1:")))
        << job.errors;
}

TEST_P(Fault, KilledRankIsNamed) {
    const JobResult job = run_job("kill", GetParam());
    EXPECT_NE(job.exit_code, 0);
    EXPECT_THAT(job.told,
                ::testing::ElementsAre("lathe: rank 0: all_reduce number 3 (\"gradients of head\", "
                                       "step 3) waits for rank 1, which died"))
        << job.errors;
}

TEST(FaultAtOnce, KilledRank0IsNamedByTheNext) {
    const JobResult job = run_job("kill", "at_once", kLong_s, 0);
    EXPECT_NE(job.exit_code, 0);
    EXPECT_THAT(job.told, ::testing::ElementsAre(AllOf(HasSubstr("lathe: rank 1: all_reduce"),
                                                       HasSubstr("waits for rank 0, which died"))))
        << job.errors;
}

TEST(FaultAtOnce, RankThatExitsIsNamed) {
    const JobResult job = run_job("exit", "at_once");
    EXPECT_NE(job.exit_code, 0);
    EXPECT_THAT(job.told, ::testing::ElementsAre(HasSubstr("waits for rank 1, which died")))
        << job.errors;
}

}  // namespace
}  // namespace lathe::testing
