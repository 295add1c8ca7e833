// A model whose optimizer state exceeds memory still trains with --offload optimizer.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/data/file_size_limit.h"
#include "tests/support/slow_build.h"
#include "tests/support/small_corpus.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<double> losses_of(const std::string& run_folder) {
    std::vector<double> losses;
    std::ifstream file(fs::path(run_folder) / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
        losses.push_back(json::parse(line).at("loss"));
    }
    return losses;
}

/// While it lives, processes started have at most so much private memory; mapped files do not
/// count.
class DataLimit {
  public:
    explicit DataLimit(rlim_t bytes) {
        getrlimit(RLIMIT_DATA, &before_);
        const rlimit limit{bytes, before_.rlim_max};
        setrlimit(RLIMIT_DATA, &limit);
    }
    ~DataLimit() { setrlimit(RLIMIT_DATA, &before_); }
    DataLimit(const DataLimit&) = delete;
    DataLimit& operator=(const DataLimit&) = delete;

  private:
    rlimit before_{};
};

/// 33 million parameters in bf16: 375 MiB of optimizer state, 63 of parameters, 125 of gradients.
std::vector<std::string> train(const std::string& data, const std::string& output,
                               const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {
        "train", "--data",    data,   "--output",       output, "--steps",
        "2",     "--layers",  "20",   "--channels",     "320",  "--heads",
        "4",     "--dtype",   "bf16", "--feed-forward", "1280", "--sequence-length",
        "16",    "--seed",    "7",    "--micro-batch",  "1",    "--global-batch",
        "1",     "--threads", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

TEST(OffloadedOptimizer, TrainsWhereItsStateExceedsMemory) {
    if (test::kSlowBuild) {
        GTEST_SKIP() << "the sanitizers' own memory is beyond any limit";
    }
    constexpr int64_t kLimitBytes = int64_t{350} << 20;
    const TemporaryFolder folder;
    const std::string data = prepare_small_data(folder);
    ASSERT_EQ(run_lathe(train(data, folder / "free")).exit_code, 0);

    ProcessResult full;
    ProcessResult offloaded;
    {
        const DataLimit limit(kLimitBytes);
        full = run_lathe(train(data, folder / "full"));
        offloaded = run_lathe(train(data, folder / "offloaded", {"--offload", "optimizer"}));
    }
    EXPECT_EQ(full.exit_code, 1);
    EXPECT_NE(full.err.find("out of memory on cpu"), std::string::npos) << full.err;
    EXPECT_NE(full.err.find("--offload optimizer"), std::string::npos) << full.err;

    ASSERT_EQ(offloaded.exit_code, 0) << offloaded.err;
    EXPECT_EQ(losses_of(folder / "offloaded"), losses_of(folder / "free"));
    EXPECT_NE(offloaded.out.find("optimizer state offloaded: "), std::string::npos);
    EXPECT_NE(offloaded.out.find("in " + (folder / "offloaded").string()), std::string::npos);
    const json memory = json::parse(std::ifstream(folder / "offloaded" / "memory.json"));
    const json& peaks = memory.at("peak_bytes");
    EXPECT_GT(peaks.at("offloaded").at("max"), kLimitBytes);
    EXPECT_EQ(peaks.at("offloaded").at("max"), peaks.at("offloaded").at("formula").at("max"));
    EXPECT_EQ(peaks.at("optimizer").at("max"), 0);
}

TEST(OffloadedOptimizer, AFullDiskEndsTheRunByOneLine) {
    const TemporaryFolder folder;
    const std::string data = prepare_small_data(folder);
    const FileSizeLimit limit(5000000);
    const ProcessResult result = run_lathe(train(data, folder / "run", {"--offload", "optimizer"}));
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_NE(result.err.find("bytes for offloaded memory cannot be reserved"), std::string::npos)
        << result.err;
    EXPECT_NE(result.err.find("--offload-folder"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace lathe::testing
