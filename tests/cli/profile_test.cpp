// `lathe train --profile`, alone and on ranks: a trace a rank, a table, and the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "kernels/files.h"
#include "tests/cli/rank_runs.h"
#include "tests/support/small_corpus.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
constexpr double kBound_s = 300;
constexpr const char* kCompute = "host: compute stream";

class TrainProfile : public ::testing::Test {
  protected:
    TrainProfile() : data_(prepare_small_data(folder_)) {}

    ProcessResult run_alone(const std::string& name, int64_t steps, const Options& more) {
        Options arguments = tiny_train(data_, folder_ / name, steps, more);
        arguments.erase(arguments.begin());
        return run_lathe(arguments);
    }
    std::set<std::string> profiles(const std::string& name) {
        std::set<std::string> names;
        for (const auto& entry : fs::directory_iterator(folder_ / name)) {
            if (entry.path().filename().string().starts_with("profile")) {
                names.insert(entry.path().filename());
            }
        }
        return names;
    }
    json events(const std::string& name, int rank) {
        const fs::path path =
            fs::path(folder_ / name) / ("profile.rank" + std::to_string(rank) + ".json");
        return json::parse(read_file(path)).at("traceEvents");
    }
    static std::set<int64_t> steps_of(const json& all) {
        std::set<int64_t> steps;
        for (const json& event : all) {
            if (event.at("ph") == "X") {
                steps.insert(event.at("args").value("step", int64_t{-1}));
            }
        }
        steps.erase(-1);
        return steps;
    }
    static int64_t count(const json& all, const std::string& lane, const std::string& name) {
        const auto of_lane = std::find_if(all.begin(), all.end(), [&](const json& event) {
            return event.at("name") == "thread_name" && event.at("args").at("name") == lane;
        });
        return of_lane == all.end()
                   ? -1
                   : std::count_if(all.begin(), all.end(), [&](const json& event) {
                         return event.at("ph") == "X" && event.at("tid") == of_lane->at("tid") &&
                                event.at("name") == name;
                     });
    }

    TemporaryFolder folder_;
    std::string data_;
};

TEST_F(TrainProfile, ATraceATableAndTheSameBits) {
    const Options often = {"--validation-every",     "2", "--checkpoint-every", "3",
                           "--validation-sequences", "4"};
    ASSERT_EQ(run_alone("plain", 6, often).exit_code, 0);
    Options profiled = often;
    profiled.insert(profiled.end(), {"--profile", "true", "--profile-steps", "2"});
    const ProcessResult result = run_alone("profiled", 6, profiled);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(losses_of(folder_ / "profiled"), losses_of(folder_ / "plain"));
    EXPECT_EQ(weights_of(folder_ / "profiled", 6), weights_of(folder_ / "plain", 6));

    const json all = events("profiled", 0);
    EXPECT_EQ(steps_of(all), (std::set<int64_t>{3, 4}));
    // 6 micro-batches of 2 blocks in 2 steps; 2 batches of a validation.
    EXPECT_EQ(count(all, kCompute, "AttentionBackward"), 2 * 6 * 2);
    EXPECT_EQ(count(all, kCompute, "Attention"), 2 * 6 * 2 + 2 * 2);
    EXPECT_GE(count(all, "thread 0", "Attention"), 2 * 6 * 2 + 2 * 2);
    EXPECT_EQ(count(all, "steps", "step 3"), 1);
    EXPECT_EQ(count(all, "steps", "checkpoint 3"), 1);
    EXPECT_EQ(count(all, "steps", "validation 4"), 1);
    EXPECT_EQ(count(all, "steps", "validation 3"), 0);
    EXPECT_EQ(count(all, "phases", "forward blocks.1"), 2 * 6 + 2);

    EXPECT_THAT(result.out, HasSubstr("2 steps of "));
    EXPECT_THAT(result.out, HasSubstr("AttentionBackward"));
    EXPECT_THAT(result.out, HasSubstr("between steps: checkpoint"));
    EXPECT_THAT(read_file(fs::path(folder_ / "profiled") / "log.txt"),
                HasSubstr("AttentionBackward"));
}

TEST_F(TrainProfile, EachRankWritesItsOwnAndMoreOnesAreRemoved) {
    const auto run_on = [&](int ranks, int64_t steps) {
        const Options train =
            tiny_train(data_, folder_ / "run", steps,
                       {"--profile", "true", "--profile-steps", "1", "--zero-stage", "3"});
        const JobResult result = run_job(on_ranks(ranks, train), folder_ / "run", kBound_s);
        ASSERT_EQ(result.exit_code, 0) << result.errors;
    };
    run_on(3, 4);
    EXPECT_EQ(profiles("run"), (std::set<std::string>{"profile.rank0.json", "profile.rank1.json",
                                                      "profile.rank2.json"}));
    EXPECT_EQ(steps_of(events("run", 2)), (std::set<int64_t>{3}));
    run_on(2, 8);  // goes on from step 4
    EXPECT_EQ(profiles("run"), (std::set<std::string>{"profile.rank0.json", "profile.rank1.json"}));
    for (const int rank : {0, 1}) {
        const json all = events("run", rank);
        EXPECT_EQ(steps_of(all), (std::set<int64_t>{7}));
        EXPECT_EQ(all.at(0).at("pid"), rank);
        EXPECT_GT(count(all, "communication stream", "all_to_all"), 0);
        EXPECT_GT(count(all, "communication stream", "all_gather"), 0);
        EXPECT_GT(count(all, kCompute, "wait for communication"), 0);
        EXPECT_EQ(count(all, kCompute, "AttentionBackward"), 3 * 2)
            << "3 micro-batches of 2 blocks";
    }
}

TEST_F(TrainProfile, WhatCannotBeProfiledIsSaid) {
    const ProcessResult few = run_alone("few", 2, {"--profile", "true"});
    EXPECT_EQ(few.exit_code, 2);
    EXPECT_THAT(few.err, HasSubstr("--profile true: begins with step 3 of a process; steps = 2"));
    const ProcessResult none = run_alone("none", 5, {"--profile-steps", "0"});
    EXPECT_EQ(none.exit_code, 2);
    EXPECT_THAT(none.err, HasSubstr("--profile-steps 0: must be from 1 to 2147483647"));
    const ProcessResult maybe = run_alone("maybe", 5, {"--profile", "maybe"});
    EXPECT_EQ(maybe.exit_code, 2);

    ASSERT_EQ(run_alone("short", 3, {}).exit_code, 0);
    const ProcessResult late = run_alone("short", 5, {"--profile", "true"});
    EXPECT_EQ(late.exit_code, 0) << late.err;
    EXPECT_THAT(
        late.out,
        HasSubstr(
            "nothing was profiled: that begins with a process's step 3, and this one took 2"));
    EXPECT_TRUE(profiles("short").empty());
}

}  // namespace
}  // namespace lathe::testing
