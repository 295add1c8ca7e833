// lathe bench: every operation of the models, as Google Benchmark's JSON.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/process.h"

namespace lathe::testing {
namespace {

using nlohmann::json;

class Bench : public ::testing::Test {
  protected:
    /// Runs it on `tokens` tokens with `more`, and returns the cases of its JSON.
    json run(int tokens, std::vector<std::string> more) {
        const std::string file = folder_.file("bench.json");
        std::vector<std::string> arguments = {"bench",
                                              "--device",
                                              "cpu",
                                              "--dtype",
                                              "f32",
                                              "--micro-batch",
                                              "1",
                                              "--sequence-length",
                                              std::to_string(tokens),
                                              "--json",
                                              file};
        arguments.insert(arguments.end(), more.begin(), more.end());
        const ProcessResult result = run_lathe(arguments);
        EXPECT_EQ(result.exit_code, 0) << result.err;
        return json::parse(std::ifstream(file)).at("benchmarks");
    }

    TemporaryFolder folder_;
};

TEST_F(Bench, EveryOperationOfBothFamiliesRuns) {
    const json cases = run(16, {"--model", "gpt2-124m", "llama-5m", "--once"});
    std::vector<std::string> names;
    for (const json& c : cases) {
        names.push_back(c.at("name"));
        EXPECT_GT(c.at("bytes").get<double>(), 0.0) << names.back();
        EXPECT_GT(c.at("real_time").get<double>(), 0.0) << names.back();
    }
    for (const char* name : {"gpt2-124m/f32/matmul/qkv/forward",
                             "gpt2-124m/f32/matmul/up_gelu/forward",
                             "gpt2-124m/f32/matmul/down/d_weight",
                             "gpt2-124m/f32/matmul/head/d_input",
                             "gpt2-124m/f32/bias/backward",
                             "gpt2-124m/f32/attention/forward",
                             "gpt2-124m/f32/attention/backward",
                             "gpt2-124m/f32/layernorm/forward",
                             "gpt2-124m/f32/layernorm_residual/forward",
                             "gpt2-124m/f32/layernorm/backward",
                             "gpt2-124m/f32/gelu/forward",
                             "gpt2-124m/f32/gelu/backward",
                             "gpt2-124m/f32/embedding/forward",
                             "gpt2-124m/f32/embedding/backward",
                             "gpt2-124m/f32/cross_entropy",
                             "gpt2-124m/f32/adamw",
                             "gpt2-124m/f32/accumulate",
                             "gpt2-124m/f32/squared_norm",
                             "gpt2-124m/f32/cast",
                             "gpt2-124m/f32/generate/attention",
                             "gpt2-124m/f32/generate/head",
                             "llama-5m/f32/matmul/gate_up/forward",
                             "llama-5m/f32/rmsnorm/forward",
                             "llama-5m/f32/rmsnorm/backward",
                             "llama-5m/f32/rotary/forward",
                             "llama-5m/f32/swiglu/forward",
                             "llama-5m/f32/swiglu/backward"}) {
        EXPECT_EQ(std::count(names.begin(), names.end(), name), 1) << name;
    }
}

TEST_F(Bench, RatesAreCostOverTimeAndSharesAreOfThePeak) {
    const json cases = run(128, {"--model", "llama-5m", "--min-time", "0.001", "--filter",
                                 "matmul/qkv/forward|squared_norm"});
    ASSERT_EQ(cases.size(), 2U);
    for (const json& c : cases) {
        const bool product = c.at("name") == "llama-5m/f32/matmul/qkv/forward";
        const double cost = c.at(product ? "flops" : "bytes");
        const double rate = c.at(product ? "flops_per_second" : "bytes_per_second");
        const double seconds = c.at("real_time").get<double>() * 1e-6;
        EXPECT_NEAR(rate * seconds, cost, 1e-6 * cost);
        EXPECT_NEAR(c.at("share_of_peak").get<double>() * c.at("peak_per_second").get<double>(),
                    rate, 1e-6 * rate);
        EXPECT_GE(c.at("median_us").get<double>(), c.at("real_time").get<double>());
    }
    // 128 tokens, 256 channels, 4 + 2 * 2 heads of 64.
    EXPECT_EQ(cases.at(0).at("flops").get<double>(), 2.0 * 128 * 256 * 512);
}

TEST_F(Bench, RepetitionsAreSummarized) {
    const json cases = run(16, {"--model", "llama-5m", "--min-time", "0.001", "--filter",
                                "squared_norm", "--repetitions", "3"});
    const auto medians = std::count_if(cases.begin(), cases.end(), [](const json& c) {
        return c.value("aggregate_name", "") == "median";
    });
    EXPECT_EQ(medians, 1);
}

TEST_F(Bench, AFilterThatNamesNothingIsRefused) {
    const ProcessResult result = run_lathe({"bench", "--device", "cpu", "--filter", "nothing"});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.err, "lathe: --filter nothing: no case has such a name; --list shows them\n");
}

}  // namespace
}  // namespace lathe::testing
