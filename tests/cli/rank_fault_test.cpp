// Faults injected in `lathe train` on three ranks: the job ends soon, with one line that tells why,
// an exit code that is not 0, and no process left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/cli/rank_runs.h"
#include "tests/support/small_corpus.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
namespace fs = std::filesystem;

/// Far above what an ending takes, far below a hang.
constexpr double kBound_s = 60;
constexpr const char* kOperation = "[a-z_]+ number [0-9]+ \\(\"[^\"]+\", step [0-9]+\\) ";

void expect_ended(const JobResult& job) {
    EXPECT_TRUE(job.in_time);
    EXPECT_EQ(job.num_left, 0);
    EXPECT_NE(job.exit_code, 0);
}

class RankFault : public ::testing::Test {
  protected:
    RankFault() : data_(prepare_small_data(folder_)), run_(folder_ / "run") {}

    /// Two lots of ranks in one job, which differ in their working folder and options.
    Options two_kinds(const std::string& first_folder, const std::string& second_folder,
                      const Options& first_more = {}, const Options& second_more = {}) {
        Options arguments = {"-n", "2", "-wdir", first_folder};
        const auto append = [&](const Options& more) {
            arguments.insert(arguments.end(), more.begin(), more.end());
        };
        append(tiny_train("data", run_, kEndless, first_more));
        append({":", "-n", "1", "-wdir", second_folder});
        append(tiny_train("data", run_, kEndless, second_more));
        return arguments;
    }

    /// A copy of the data folder, in a folder of its own, which is returned.
    std::string copy_data() {
        fs::create_directory(folder_ / "other");
        fs::copy(data_, folder_ / "other/data");
        return folder_ / "other";
    }

    /// Overwrites tokens [first, first + count) of a split.
    static void write_tokens(const fs::path& shard, int64_t first, int64_t count, uint16_t token) {
        std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
        ASSERT_TRUE(file.is_open());
        file.seekp(1024 + 2 * first);
        for (int64_t i = 0; i < count; ++i) {
            file.write(reinterpret_cast<const char*>(&token), 2);
        }
    }

    TemporaryFolder folder_;
    std::string data_;
    std::string run_;
};

TEST_F(RankFault, AKilledRankIsNamed) {
    Job job(on_ranks(3, tiny_train(data_, run_, kEndless, {"--zero-stage", "3"})), run_);
    wait_for_steps(job, run_, 3);
    job.signal_rank(1, SIGKILL);
    const JobResult result = job.wait(kBound_s);
    expect_ended(result);
    EXPECT_THAT(result.told, ElementsAre(MatchesRegex(std::string("lathe: rank 0: ") + kOperation +
                                                      "waits for rank 1, which died")))
        << result.errors;
}

TEST_F(RankFault, KilledRank0IsNamedByTheNext) {
    Job job(on_ranks(3, tiny_train(data_, run_, kEndless)), run_);
    wait_for_steps(job, run_, 3);
    job.signal_rank(0, SIGKILL);
    const JobResult result = job.wait(kBound_s);
    expect_ended(result);
    EXPECT_THAT(result.told, ElementsAre(MatchesRegex(std::string("lathe: rank 1: ") + kOperation +
                                                      "waits for rank 0, which died")))
        << result.errors;
}

TEST_F(RankFault, AStoppedRankIsNamedAfterTheTimeout) {
    Job job(on_ranks(3, tiny_train(data_, run_, kEndless, {"--collective-timeout", "5"})), run_);
    wait_for_steps(job, run_, 3);
    job.signal_rank(2, SIGSTOP);
    const JobResult result = job.wait(kBound_s);
    expect_ended(result);
    EXPECT_EQ(result.exit_code, 1);
    // Rank 1 may hang one exchange behind, in which it waits for rank 2.
    EXPECT_THAT(
        result.told,
        ElementsAre(MatchesRegex(std::string("lathe: rank 0: ") + kOperation +
                                 "has waited 5 s for (rank 2|ranks 1 and 2): died, hanging, "
                                 "or slower than --collective-timeout allows")))
        << result.errors;
}

TEST_F(RankFault, AnExceptionOnOneRankIsToldByIt) {
    // A token that is in no vocabulary, between those that ranks compare at the start.
    const std::string other = copy_data();
    write_tokens(folder_ / "other/data/train-00000.bin", 3020, 100, 60000);
    const JobResult result = run_job(two_kinds(folder_.path(), other), run_, kBound_s);
    expect_ended(result);
    EXPECT_THAT(result.told, ElementsAre(AllOf(HasSubstr("lathe: rank 2: "),
                                               HasSubstr("train-00000.bin"), HasSubstr("60000"))))
        << result.errors;
}

TEST_F(RankFault, WhatAllRanksFindWrongBeforeTheyMeetIsToldOnce) {
    for (const Options& wrong : {Options{"--micro-batch", "0"}, Options{"--no-such-option", "1"}}) {
        const JobResult result =
            run_job(on_ranks(3, tiny_train(data_, run_, kEndless, wrong)), run_, kBound_s);
        expect_ended(result);
        EXPECT_EQ(result.exit_code, 2);
        EXPECT_THAT(result.told,
                    ElementsAre(AllOf(HasSubstr("lathe: rank 0: "), HasSubstr(wrong[0]))))
            << result.errors;
    }
}

TEST_F(RankFault, ADifferentConfigurationIsNamedAtTheStart) {
    const JobResult result = run_job(
        two_kinds(folder_.path(), folder_.path(), {}, {"--gradient-clip", "0.5"}), run_, kBound_s);
    expect_ended(result);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.told,
                ElementsAre("lathe: rank 0: the ranks differ in gradient-clip: rank 0 has 1.0, "
                            "rank 2 has 0.5"))
        << result.errors;
    EXPECT_FALSE(fs::exists(run_));
}

TEST_F(RankFault, DifferentDataIsNamedAtTheStart) {
    const std::string other = copy_data();
    // Other text of the same length.
    write_tokens(folder_ / "other/data/train-00000.bin", 0, 3000, 7);
    const JobResult result = run_job(two_kinds(folder_.path(), other), run_, kBound_s);
    expect_ended(result);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.told, ElementsAre(HasSubstr("the ranks differ in the training text")))
        << result.errors;
    EXPECT_FALSE(fs::exists(run_));
}

TEST_F(RankFault, DataThatOneRankDoesNotHaveIsToldByIt) {
    fs::create_directory(folder_ / "other");
    const JobResult result = run_job(two_kinds(folder_.path(), folder_ / "other"), run_, kBound_s);
    expect_ended(result);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.told, ElementsAre(AllOf(HasSubstr("lathe: rank 2: "), HasSubstr("data"))))
        << result.errors;
    EXPECT_FALSE(fs::exists(run_));
}

}  // namespace
}  // namespace lathe::testing
