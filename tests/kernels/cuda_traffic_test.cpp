// What the kernels move, by the emulated GPU's counters, beside the least that they must: every
// tensor once. And shared-memory bank conflicts. Counts, the same on every run; no seconds.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>

#include "kernels/bench/cases.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/files.h"
#include "tests/support/process.h"

namespace lathe::test {
namespace {

using bench::BenchCase;
using bench::ModelSizes;

constexpr double kSectorBytes = 32.0;
/// Of the least, for what a launch costs beside its tensors: partial sums, weights once a block.
constexpr double kMostExcess = 1.05;
/// Columns of f32 logits that one multiprocessor keeps (docs/kernels/rows.md).
constexpr int64_t kKeptLogits = 4096 * (7 + 10);

/// Widths of real models, and as many rows as their micro-batches have: with few, what a launch
/// costs beside its tensors is more than 5%.
ModelSizes gpt2() {
    return {.name = "gpt2",
            .batch = 16,
            .time = 1024,
            .channels = 768,
            .feed_forward = 3072,
            .vocabulary = 50304,
            .heads = {.heads = 12, .kv_heads = 12, .head_size = 64},
            .norm = NormKind::layernorm,
            .activation = Activation::gelu_tanh,
            .biases = true,
            .learned_positions = true,
            .rotary = true,
            .head_rows = 32};
}

ModelSizes llama() {
    return {.name = "llama",
            .batch = 16,
            .time = 512,
            .channels = 4096,
            .feed_forward = 1408,
            .vocabulary = 128256,
            .heads = {.heads = 32, .kv_heads = 8, .head_size = 128},
            .rotary = true,
            .head_rows = 8};
}

/// Few rows, so that the emulated products take little time; deep enough for loops.
ModelSizes short_gpt2() {
    ModelSizes sizes = gpt2();
    sizes.name = "short_gpt2";
    sizes.batch = 1;
    sizes.time = 128;
    sizes.vocabulary = 1024;
    return sizes;
}

/// For the large tiles of bf16.
ModelSizes shallow() {
    return {.name = "shallow",
            .batch = 4,
            .time = 512,
            .channels = 256,
            .feed_forward = 1024,
            .vocabulary = 1024,
            .heads = {.heads = 2, .kv_heads = 1, .head_size = 128},
            .rotary = true,
            .head_rows = 64};
}

struct TrafficCase {
    ModelSizes sizes;
    DType compute;
    BenchCase bench;

    bool is(const char* operation) const { return bench.name.find(operation) != std::string::npos; }
    friend std::ostream& operator<<(std::ostream& out, const TrafficCase& c) {
        return out << c.bench.name;
    }
    bool is_dense() const { return is("/matmul/") || is("/attention/") || is("/generate/"); }
};

/// What the emulated GPU counts in seconds: f32 is left out where bf16 says the same.
std::vector<TrafficCase> make_traffic_cases() {
    std::vector<TrafficCase> all;
    const auto add = [&](const ModelSizes& sizes, DType compute, bool dense) {
        for (BenchCase& bench : make_cases(sizes, compute)) {
            TrafficCase made = {sizes, compute, std::move(bench)};
            const bool is_huge = sizes.name == "llama" && made.is("/embedding/");
            if (made.is_dense() == dense && !is_huge) {
                all.push_back(std::move(made));
            }
        }
    };
    add(gpt2(), DType::bf16, false);
    add(gpt2(), DType::f32, false);
    add(llama(), DType::bf16, false);
    add(short_gpt2(), DType::bf16, true);
    add(short_gpt2(), DType::f32, true);
    add(shallow(), DType::bf16, true);
    return all;
}

const std::vector<TrafficCase>& traffic_cases() {
    static const std::vector<TrafficCase> kAll = make_traffic_cases();
    return kAll;
}

struct Counters {
    double moved = 0;       ///< bytes between the multiprocessors and their caches
    double moved_once = 0;  ///< each sector once a launch: what large enough caches leave to DRAM
    int64_t conflicts = 0;
    std::string kernels;
};

/// Issues a case in a process of its own, since counters are told when a process ends. Nothing
/// where no emulated GPU counts.
std::optional<Counters> count(const TrafficCase& traffic) {
    const TemporaryFolder folder;
    const std::filesystem::path file = folder / "counters.json";
    lathe::testing::Process process(
        {"--issue", traffic.bench.name},
        {.environment = {"PTXEMU_STATS_JSON=" + file.string()}, .program = "/proc/self/exe"});
    const lathe::testing::ProcessResult result = process.wait();
    EXPECT_EQ(result.exit_code, 0) << result.err;
    if (!std::filesystem::exists(file)) {
        return std::nullopt;
    }
    Counters counters;
    for (const auto& kernel : nlohmann::json::parse(read_file(file))) {
        const auto sum = [&](const char* a, const char* b) {
            return kSectorBytes * (kernel.at(a).get<double>() + kernel.at(b).get<double>());
        };
        counters.moved += sum("global_load_sectors", "global_store_sectors");
        counters.moved_once += sum("global_load_sectors_once", "global_store_sectors_once");
        counters.conflicts += kernel.at("shared_bank_conflicts").get<int64_t>();
        counters.kernels += kernel.at("kernel").get<std::string>() + "\n";
    }
    return counters;
}

/// Bytes that are read a second time, as the algorithm has it, from a cache where the device's is
/// large enough: of d_y, for the positions' own sum, and of logits what exceeds a multiprocessor.
double second_reading(const TrafficCase& c) {
    const ModelSizes& sizes = c.sizes;
    if (c.is("/embedding/backward") && sizes.learned_positions) {
        return static_cast<double>(sizes.tokens() * sizes.channels * size_of(c.compute));
    }
    if (c.is("/cross_entropy")) {
        const int64_t exceeding = std::max<int64_t>(sizes.vocabulary - kKeptLogits, 0);
        return static_cast<double>(sizes.head_rows * exceeding * 4);
    }
    return 0.0;
}

std::vector<TrafficCase> cases_that_are(bool dense) {
    std::vector<TrafficCase> some;
    std::ranges::copy_if(traffic_cases(), std::back_inserter(some),
                         [&](const TrafficCase& c) { return c.is_dense() == dense; });
    return some;
}

std::string name_of_case(const ::testing::TestParamInfo<TrafficCase>& info) {
    std::string name = info.param.bench.name;
    std::ranges::replace(name, '/', '_');
    return name;
}

class Traffic : public ::testing::TestWithParam<TrafficCase> {
  protected:
    void SetUp() override {
        const std::optional<Counters> counted = count(GetParam());
        if (!counted) {
            GTEST_SKIP() << "only the emulated GPU counts";
        }
        counters_ = *counted;
        std::printf("%.3f of the least, each sector once %.3f, %lld bank conflicts; %s",
                    counters_.moved / GetParam().bench.cost.bytes(),
                    counters_.moved_once / GetParam().bench.cost.bytes(),
                    static_cast<long long>(counters_.conflicts), counters_.kernels.c_str());
    }
    Counters counters_;
};

class MemoryBound : public Traffic {};
INSTANTIATE_TEST_SUITE_P(Operations, MemoryBound, ::testing::ValuesIn(cases_that_are(false)),
                         name_of_case);

TEST_P(MemoryBound, MovesTheLeast) {
    const double least = GetParam().bench.cost.bytes();
    EXPECT_LE(counters_.moved, kMostExcess * (least + second_reading(GetParam())));
    EXPECT_LE(counters_.moved_once, kMostExcess * least + second_reading(GetParam()));
    if (!GetParam().is("/embedding/backward")) {  // whose sort's digits fall where they fall
        EXPECT_EQ(counters_.conflicts, 0);
    }
}

class Dense : public Traffic {};
INSTANTIATE_TEST_SUITE_P(Operations, Dense, ::testing::ValuesIn(cases_that_are(true)),
                         name_of_case);

TEST_P(Dense, MeetsNoBankConflict) { EXPECT_EQ(counters_.conflicts, 0); }

int issue(const std::string& name) {
    const auto backend = make_cuda_backend({});
    const auto found = std::ranges::find_if(
        traffic_cases(), [&](const TrafficCase& c) { return c.bench.name == name; });
    const auto prepared = found->bench.prepare(*backend);
    prepared->issue();
    backend->synchronize(Stream::compute);
    return 0;
}

}  // namespace
}  // namespace lathe::test

int main(int argc, char** argv) {
    if (argc == 3 && std::string(argv[1]) == "--issue") {
        return lathe::test::issue(argv[2]);
    }
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
