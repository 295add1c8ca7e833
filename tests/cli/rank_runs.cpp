#include "tests/cli/rank_runs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "kernels/files.h"
#include "train/checkpoint.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
constexpr double kStartsWithin_s = 120;

std::vector<nlohmann::json> records_of(const std::string& output) {
    std::vector<nlohmann::json> records;
    std::ifstream file(fs::path(output) / "metrics.jsonl");
    for (std::string line; std::getline(file, line) && !file.eof();) {
        records.push_back(nlohmann::json::parse(line));
    }
    return records;
}

std::string text_of(const nlohmann::json& record, const char* key) {
    return record.contains(key) ? record.at(key).dump() : "-";
}

}  // namespace

Options tiny_train(const std::string& data, const std::string& output, int64_t steps,
                   const Options& more) {
    Options arguments = {LATHE_BINARY,
                         "train",
                         "--data",
                         data,
                         "--output",
                         output,
                         "--steps",
                         std::to_string(steps),
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
                         "2",
                         "--global-batch",
                         "12",
                         "--learning-rate",
                         "0.003",
                         "--threads",
                         "1"};
    for (size_t i = 0; i + 1 < more.size(); i += 2) {
        const auto given = std::find(arguments.begin(), arguments.end(), more[i]);
        if (given != arguments.end()) {
            *(given + 1) = more[i + 1];
        } else {
            arguments.insert(arguments.end(), {more[i], more[i + 1]});
        }
    }
    return arguments;
}

Options on_ranks(int ranks, const Options& train) {
    Options arguments = {"-n", std::to_string(ranks)};
    arguments.insert(arguments.end(), train.begin(), train.end());
    return arguments;
}

int64_t num_steps_told(const std::string& output) {
    std::ifstream file(fs::path(output) / "metrics.jsonl");
    int64_t count = 0;
    for (std::string line; std::getline(file, line) && !file.eof();) {
        ++count;
    }
    return count;
}

void wait_for_steps(Job& job, const std::string& output, int64_t steps) {
    const auto start = std::chrono::steady_clock::now();
    while (num_steps_told(output) < steps && job.process().running() &&
           std::chrono::steady_clock::now() - start <
               std::chrono::duration<double>(kStartsWithin_s)) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_GE(num_steps_told(output), steps) << "it does not train";
}

std::map<int64_t, std::string> losses_of(const std::string& output) {
    std::map<int64_t, std::string> losses;
    for (const nlohmann::json& record : records_of(output)) {
        const auto step = record.at("step").get<int64_t>();
        EXPECT_FALSE(losses.contains(step)) << "step " << step << " is recorded twice";
        losses[step] = text_of(record, "loss") + " " + text_of(record, "gradient_norm") + " " +
                       text_of(record, "validation_loss");
    }
    return losses;
}

std::map<std::string, std::string> weights_of(const std::string& output, int64_t step) {
    std::map<std::string, std::string> checksums;
    for (const auto& entry : fs::directory_iterator(checkpoint_path(output, step))) {
        if (entry.path().extension() == ".safetensors") {
            checksums[entry.path().filename().string()] = checksum_file(entry.path());
        }
    }
    return checksums;
}

}  // namespace lathe::testing
