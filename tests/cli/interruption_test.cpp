// A run that is killed or stopped at any moment, and resumed, must give the losses and weights of
// the uninterrupted run, bit for bit, each step recorded once.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "kernels/files.h"
#include "tests/support/small_corpus.h"
#include "train/checkpoint.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kSteps = 24;

std::vector<std::string> train_arguments(const std::string& data, const std::string& output) {
    return {"train",
            "--data",
            data,
            "--output",
            output,
            "--steps",
            std::to_string(kSteps),
            "--layers",
            "2",
            "--channels",
            "64",
            "--heads",
            "4",
            "--kv-heads",
            "2",
            "--feed-forward",
            "160",
            "--sequence-length",
            "32",
            "--micro-batch",
            "4",
            "--global-batch",
            "8",
            "--checkpoint-every",
            "5",
            "--validation-every",
            "10",
            "--checkpoint-keep",
            "2",
            "--learning-rate",
            "0.003"};
}

/// What must not depend on interruptions: the exact text of loss, gradient norm and validation loss
/// of each step.
std::map<int64_t, std::string> losses_of(const std::string& run_folder) {
    std::map<int64_t, std::string> losses;
    std::ifstream file(fs::path(run_folder) / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
        const auto record = nlohmann::json::parse(line);
        const auto step = record.at("step").get<int64_t>();
        EXPECT_FALSE(losses.contains(step)) << "step " << step << " is recorded twice";
        losses[step] =
            record.at("loss").dump() + " " + record.at("gradient_norm").dump() + " " +
            (record.contains("validation_loss") ? record.at("validation_loss").dump() : "");
    }
    return losses;
}

/// Checksums of the last checkpoint's model and optimizer files.
std::map<std::string, std::string> weights_of(const std::string& run_folder) {
    std::map<std::string, std::string> checksums;
    const fs::path last = checkpoint_path(run_folder, kSteps);
    for (const auto& entry : fs::directory_iterator(last)) {
        if (entry.path().extension() == ".safetensors") {
            checksums[entry.path().filename().string()] = checksum_file(entry.path());
        }
    }
    return checksums;
}

class Interruption : public ::testing::Test {
  protected:
    void SetUp() override {
        data_ = prepare_small_data(folder_);
        const ProcessResult result = run_lathe(train_arguments(data_, folder_ / "whole"));
        ASSERT_EQ(result.exit_code, 0) << result.err;
        losses_ = losses_of(folder_ / "whole");
        weights_ = weights_of(folder_ / "whole");
        ASSERT_EQ(losses_.size(), static_cast<size_t>(kSteps));
        ASSERT_FALSE(weights_.empty());
    }

    void expect_same_as_whole(const std::string& run_folder) {
        EXPECT_EQ(losses_of(run_folder), losses_);
        EXPECT_EQ(weights_of(run_folder), weights_);
    }

    TemporaryFolder folder_;
    std::string data_;
    std::map<int64_t, std::string> losses_;
    std::map<std::string, std::string> weights_;
};

TEST_F(Interruption, KilledAtManyMomentsAndResumedGivesTheSameBits) {
    // Each start is killed a little later than the one before, so that kills fall into start-up,
    // steps and checkpoints.
    const std::string run = folder_ / "killed";
    int delay_ms = 10;
    int kills = 0;
    for (;; delay_ms = delay_ms * 5 / 4) {
        Process process(train_arguments(data_, run));
        std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
        if (!process.running()) {
            ASSERT_EQ(process.wait().exit_code, 0) << process.wait().err;
            break;
        }
        process.signal(SIGKILL);
        process.wait();
        ++kills;
    }
    EXPECT_GT(kills, 3);
    expect_same_as_whole(run);
}

TEST_F(Interruption, SignalsWriteACheckpointAndTheirExitCode) {
    for (const int number : {SIGINT, SIGTERM}) {
        const std::string run = folder_ / fmt::format("signal-{}", number);
        const fs::path metrics = fs::path(run) / "metrics.jsonl";
        Process process(train_arguments(data_, run));
        for (int i = 0; i < 5000 && !(fs::exists(metrics) && fs::file_size(metrics) > 0); ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        process.signal(number);
        const ProcessResult result = process.wait();
        ASSERT_EQ(result.exit_code, 128 + number) << result.err;
        const auto stored = list_checkpoints(run);
        ASSERT_FALSE(stored.empty());
        EXPECT_EQ(static_cast<size_t>(stored.back().step), losses_of(run).size());
        ASSERT_EQ(run_lathe(train_arguments(data_, run)).exit_code, 0);
        expect_same_as_whole(run);
    }
}

TEST_F(Interruption, TheBitsDoNotDependOnTheNumberOfThreads) {
    for (const char* threads : {"1", "3"}) {
        const std::string run = folder_ / fmt::format("threads-{}", threads);
        std::vector<std::string> arguments = train_arguments(data_, run);
        arguments.insert(arguments.end(), {"--threads", threads});
        ASSERT_EQ(run_lathe(arguments).exit_code, 0);
        expect_same_as_whole(run);
    }
}

TEST_F(Interruption, AFullDiskLosesNothing) {
    const std::string run = folder_ / "full";
    // Enough for the log and the metrics, too little for a checkpoint's files.
    const ProcessResult full =
        run_lathe(train_arguments(data_, run), {.file_size_limit_bytes = 100000});
    EXPECT_EQ(full.exit_code, 2) << full.err;
    EXPECT_NE(full.err.find("safetensors"), std::string::npos) << full.err;
    EXPECT_EQ(std::count(full.err.begin(), full.err.end(), '\n'), 1) << full.err;
    EXPECT_TRUE(fs::is_empty(fs::path(run) / "checkpoints"));
    ASSERT_EQ(run_lathe(train_arguments(data_, run)).exit_code, 0);
    expect_same_as_whole(run);
}

TEST_F(Interruption, ADamagedCheckpointIsNamedNotLoaded) {
    const fs::path state =
        checkpoint_path(folder_ / "whole", kSteps) / "optimizer-00002-of-00004.safetensors";
    ASSERT_TRUE(fs::exists(state));
    {
        std::fstream file(state, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(-3, std::ios::end);
        file.put('\x5a');
    }
    std::vector<std::string> arguments = train_arguments(data_, folder_ / "whole");
    arguments[6] = "30";
    const ProcessResult result = run_lathe(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_NE(result.err.find("optimizer-00002-of-00004.safetensors"), std::string::npos)
        << result.err;
}

}  // namespace
}  // namespace lathe::testing
