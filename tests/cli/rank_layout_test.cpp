// `mpirun lathe train` gives the numbers of one process, bit for bit, through interruptions by
// signals and changes of the number of ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "kernels/files.h"
#include "tests/cli/rank_runs.h"
#include "tests/support/slow_build.h"
#include "tests/support/small_corpus.h"
#include "train/checkpoint.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
constexpr double kBound_s = 300;

class RankLayout : public ::testing::Test {
  protected:
    RankLayout() : data_(prepare_small_data(folder_)) {}

    Options train(const std::string& name, int64_t steps, const Options& more) {
        return tiny_train(data_, folder_ / name, steps, more);
    }
    void run_alone(const std::string& name, int64_t steps, const Options& more) {
        Options arguments = train(name, steps, more);
        arguments.erase(arguments.begin());
        const ProcessResult result = run_lathe(arguments);
        ASSERT_EQ(result.exit_code, 0) << result.err;
    }
    void run_on(int ranks, const std::string& name, int64_t steps, const Options& more) {
        const JobResult result =
            run_job(on_ranks(ranks, train(name, steps, more)), folder_ / name, kBound_s);
        ASSERT_EQ(result.exit_code, 0) << result.errors;
        EXPECT_EQ(result.num_left, 0);
    }
    void expect_equal_runs(const std::string& one, const std::string& other, int64_t steps) {
        const auto losses = losses_of(folder_ / one);
        EXPECT_EQ(losses.size(), static_cast<size_t>(steps));
        EXPECT_EQ(losses_of(folder_ / other), losses);
        EXPECT_EQ(weights_of(folder_ / other, steps), weights_of(folder_ / one, steps));
    }

    TemporaryFolder folder_;
    std::string data_;
};

TEST_F(RankLayout, ThreeRanksGiveTheBitsOfOne) {
    constexpr int64_t kSteps = 8;
    for (const char* dtype : {"f32", "bf16"}) {
        const std::string one = std::string("one-") + dtype;
        const std::string three = std::string("three-") + dtype;
        run_alone(one, kSteps, {"--dtype", dtype});
        run_on(3, three, kSteps, {"--dtype", dtype, "--zero-stage", "3"});
        expect_equal_runs(one, three, kSteps);
    }
}

TEST_F(RankLayout, TwentyFourRanksOnFewCores) {
    constexpr int64_t kSteps = 3;
    const Options more = {"--micro-batch",          "1", "--global-batch", "24",
                          "--validation-sequences", "24"};
    run_alone("one", kSteps, more);
    Options sharded = more;
    sharded.insert(sharded.end(), {"--zero-stage", "3", "--shard-size", "8"});
    run_on(24, "many", kSteps, sharded);
    expect_equal_runs("one", "many", kSteps);
}

/// SIGTERM to mpirun.sh, then SIGINT to one rank, then to its end: on three ranks, two and one.
TEST_F(RankLayout, SignalsStopAllRanksAndARunGoesOnWithFewer) {
    constexpr int64_t kSteps = test::kSlowBuild ? 150 : 500;
    run_alone("whole", kSteps, {});
    const std::string run = folder_ / "parts";
    int64_t steps = 0;
    const auto check_stopped = [&](const JobResult& result, int exit_code) {
        EXPECT_EQ(result.exit_code, exit_code) << result.errors;
        EXPECT_THAT(result.told, ::testing::IsEmpty());
        EXPECT_TRUE(result.in_time);
        EXPECT_EQ(result.num_left, 0);
        const auto stored = list_checkpoints(run);
        ASSERT_FALSE(stored.empty());
        EXPECT_EQ(stored.back().step, num_steps_told(run)) << "each step told is in the checkpoint";
        EXPECT_GT(stored.back().step, steps);
        EXPECT_LT(stored.back().step, kSteps);
        steps = stored.back().step;
    };
    {
        Job job(on_ranks(3, train("parts", kSteps, {"--zero-stage", "3"})), run);
        wait_for_steps(job, run, 1);
        job.process().signal(SIGTERM);
        check_stopped(job.wait(kBound_s), 143);
    }
    {
        Job job(on_ranks(2, train("parts", kSteps, {"--zero-stage", "1"})), run);
        wait_for_steps(job, run, steps + 1);
        job.signal_rank(1, SIGINT);
        check_stopped(job.wait(kBound_s), 130);
    }
    run_alone("parts", kSteps, {});
    expect_equal_runs("whole", "parts", kSteps);
}

/// Overwrites a token's row of the input embedding with NaN.
void plant_nan(const fs::path& model, int64_t token) {
    const fs::path path = model / "model.safetensors";
    std::string bytes = read_file(path);
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
    const auto header = nlohmann::json::parse(bytes.substr(8, header_bytes));
    const auto& table = header.at("model.embed_tokens.weight");
    const auto shape = table.at("shape").get<std::vector<int64_t>>();
    const auto offsets = table.at("data_offsets").get<std::vector<int64_t>>();
    const int64_t row_bytes = (offsets[1] - offsets[0]) / shape[0];
    // All bits set are NaN in every floating-point type.
    std::fill_n(
        bytes.begin() + 8 + static_cast<int64_t>(header_bytes) + offsets[0] + token * row_bytes,
        row_bytes, '\xff');
    write_file(path, bytes);
}

/// The token nearest to one in `rarity` of the training text.
int64_t rare_token(const fs::path& data, int64_t rarity) {
    const TokenDataset train(data, "train");
    std::vector<int32_t> tokens(static_cast<size_t>(train.num_tokens()));
    train.copy(0, tokens);
    std::vector<int64_t> counts(static_cast<size_t>(train.vocabulary_size()));
    for (const int32_t token : tokens) {
        ++counts[static_cast<size_t>(token)];
    }
    const int64_t wanted = train.num_tokens() / rarity;
    const auto nearest = std::min_element(counts.begin(), counts.end(), [&](int64_t a, int64_t b) {
        return std::abs(a - wanted) < std::abs(b - wanted);
    });
    return nearest - counts.begin();
}

/// A token whose embedding is NaN comes up in some micro-batches: the rank that runs one of them
/// finds NaN, and all ranks skip the step.
TEST_F(RankLayout, ANanOnOneRankIsSkippedByAll) {
    constexpr int64_t kSteps = 10;
    const Options untied = {"--tied-embeddings", "false"};
    run_alone("first", 1, untied);
    const std::string model = folder_ / "model";
    ASSERT_EQ(run_lathe({"export", "--checkpoint", folder_ / "first", "--output", model}).exit_code,
              0);
    plant_nan(model, rare_token(data_, 600));
    Options more = untied;
    more.insert(more.end(), {"--resume", model, "--max-bad-steps", "100"});
    run_alone("one", kSteps, more);
    more.insert(more.end(), {"--zero-stage", "2"});
    run_on(3, "three", kSteps, more);
    expect_equal_runs("one", "three", kSteps);
    const std::string log = read_file(folder_ / "three/log.txt");
    int64_t skipped = 0;
    for (size_t at = 0; (at = log.find(" skipped: loss", at)) != std::string::npos; ++at) {
        ++skipped;
    }
    EXPECT_GT(skipped, 0) << log;
    EXPECT_LT(skipped, kSteps) << log;
    EXPECT_EQ(
        read_file(folder_ / "three/log-rank-2.txt").find("skipped: loss") != std::string::npos,
        true);
}

}  // namespace
}  // namespace lathe::testing
