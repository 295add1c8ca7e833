// `lathe` on GPUs: trains as on the CPU within rounding, with the same bits in every layout.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "tests/cli/rank_runs.h"
#include "tests/support/small_corpus.h"

namespace lathe::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
namespace fs = std::filesystem;

constexpr double kBound_s = 300;

/// Set for the processes that are started while it lives.
class Setting {
  public:
    Setting(std::string name, const std::string& value) : name_(std::move(name)) {
        const char* before = std::getenv(name_.c_str());
        before_ = before == nullptr ? "" : before;
        setenv(name_.c_str(), value.c_str(), 1);
    }
    ~Setting() {
        if (before_.empty()) {
            unsetenv(name_.c_str());
        } else {
            setenv(name_.c_str(), before_.c_str(), 1);
        }
    }
    Setting(const Setting&) = delete;
    Setting& operator=(const Setting&) = delete;

  private:
    std::string name_;
    std::string before_;
};

std::vector<double> loss_values(const std::string& output) {
    std::vector<double> losses;
    std::ifstream file(fs::path(output) / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
        losses.push_back(nlohmann::json::parse(line).at("loss"));
    }
    return losses;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
    EXPECT_EQ(a.size(), b.size());
    double sum = 0.0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    }
    return std::sqrt(sum / static_cast<double>(a.size()));
}

class CudaTraining : public ::testing::Test {
  protected:
    CudaTraining() : data_(prepare_small_data(folder_)) {}

    /// Two micro-batches of one sequence of 16 tokens a step.
    Options train(const std::string& name, int64_t steps, const Options& more) {
        Options all = {"--channels",
                       "32",
                       "--heads",
                       "2",
                       "--kv-heads",
                       "1",
                       "--feed-forward",
                       "64",
                       "--sequence-length",
                       "16",
                       "--micro-batch",
                       "1",
                       "--global-batch",
                       "2",
                       "--validation-sequences",
                       "2"};
        all.insert(all.end(), more.begin(), more.end());
        return tiny_train(data_, folder_ / name, steps, all);
    }
    void run_on_cpu(const std::string& name, int64_t steps, const Options& more) {
        Options arguments = train(name, steps, more);
        arguments.insert(arguments.end(), {"--device", "cpu"});
        arguments.erase(arguments.begin());
        const ProcessResult result = run_lathe(arguments);
        ASSERT_EQ(result.exit_code, 0) << result.err;
    }
    static ProcessResult run_alone(const Options& lathe) {
        return run_lathe(lathe, {.program = LATHE_CUDA_RUNNER});
    }
    Options on_gpus(int ranks, const Options& lathe) {
        Options arguments = {LATHE_CUDA_RUNNER};
        arguments.insert(arguments.end(), lathe.begin(), lathe.end());
        return on_ranks(ranks, arguments);
    }
    void run(int ranks, const std::string& name, int64_t steps, const Options& more) {
        if (ranks > count_cuda_devices()) {
            GTEST_SKIP() << "needs " << ranks << " GPUs";
        }
        Options arguments = train(name, steps, more);
        arguments.insert(arguments.end(), {"--device", "cuda"});
        if (ranks == 1) {
            const ProcessResult result = run_alone(arguments);
            ASSERT_EQ(result.exit_code, 0) << result.err;
            return;
        }
        const JobResult result = run_job(on_gpus(ranks, arguments), folder_ / name, kBound_s);
        ASSERT_EQ(result.exit_code, 0) << result.errors;
        EXPECT_EQ(result.num_left, 0);
    }
    void expect_equal_runs(const std::string& one, const std::string& other, int64_t steps) {
        const auto losses = losses_of(folder_ / one);
        EXPECT_EQ(losses.size(), static_cast<size_t>(steps));
        EXPECT_EQ(losses_of(folder_ / other), losses) << other;
        EXPECT_EQ(weights_of(folder_ / other, steps), weights_of(folder_ / one, steps)) << other;
    }

    TemporaryFolder folder_;
    std::string data_;
};

/// Rounding moves two backends' losses apart as it moves either from exact numbers: how far that
/// is, is what the CPU shows between f32 and bf16. f32 itself rounds 2^16 times more finely.
TEST_F(CudaTraining, TwentyStepsFollowTheCpuWithinRounding) {
    constexpr int64_t kSteps = 20;
    run_on_cpu("cpu-f32", kSteps, {"--dtype", "f32"});
    run_on_cpu("cpu-bf16", kSteps, {"--dtype", "bf16"});
    run(1, "one-f32", kSteps, {"--dtype", "f32"});
    run(1, "one-bf16", kSteps, {"--dtype", "bf16"});
    const std::vector<double> exact = loss_values(folder_ / "cpu-f32");
    ASSERT_EQ(exact.size(), static_cast<size_t>(kSteps));
    const double rounding = distance(exact, loss_values(folder_ / "cpu-bf16"));
    EXPECT_LT(distance(exact, loss_values(folder_ / "one-bf16")), 2 * rounding);
    EXPECT_LT(distance(exact, loss_values(folder_ / "one-f32")), 2 * rounding / 256);
    for (const char* stage : {"0", "3"}) {
        const std::string name = std::string("two-") + stage;
        run(2, name, kSteps, {"--dtype", "bf16", "--zero-stage", stage});
        expect_equal_runs("one-bf16", name, kSteps);
    }
}

/// NCCL's own reductions, of what each rank has summed: other roundings than the ordered sum's, of
/// the size that f32 itself has.
TEST_F(CudaTraining, NativeReductionFollowsTheOrderedOneWithinRounding) {
    constexpr int64_t kSteps = 4;
    const Options six = {"--global-batch", "6", "--dtype"};
    const auto with = [&](Options more) {
        more.insert(more.begin(), six.begin(), six.end());
        return more;
    };
    run_on_cpu("f32", kSteps, with({"f32"}));
    run_on_cpu("bf16", kSteps, with({"bf16"}));
    const double rounding =
        distance(loss_values(folder_ / "f32"), loss_values(folder_ / "bf16")) / 256;
    run(2, "ordered", kSteps, with({"f32"}));
    for (const char* stage : {"0", "3"}) {
        const std::string name = std::string("native-") + stage;
        run(2, name, kSteps, with({"f32", "--reduction", "native", "--zero-stage", stage}));
        EXPECT_LT(distance(loss_values(folder_ / "ordered"), loss_values(folder_ / name)),
                  2 * rounding)
            << stage;
        EXPECT_NE(weights_of(folder_ / name, kSteps), weights_of(folder_ / "ordered", kSteps))
            << "the sums were made in the same order";
    }
}

TEST_F(CudaTraining, TheLayoutChangesNoBit) {
    constexpr int64_t kSteps = 2;
    run(1, "one", kSteps, {"--dtype", "bf16"});
    const std::vector<std::pair<std::string, Options>> layouts = {
        {"stage-1", {"--zero-stage", "1"}},
        {"stage-2", {"--zero-stage", "2", "--bucket-elements", "1"}},
        {"stage-3", {"--zero-stage", "3", "--prefetch", "false", "--offload", "optimizer"}},
    };
    for (const auto& [name, options] : layouts) {
        Options more = {"--dtype", "bf16"};
        more.insert(more.end(), options.begin(), options.end());
        run(2, name, kSteps, more);
        expect_equal_runs("one", name, kSteps);
    }
    run(1, "offloaded", kSteps, {"--dtype", "bf16", "--offload", "optimizer"});
    expect_equal_runs("one", "offloaded", kSteps);
}

/// Streams as late as they may run, and warps in another order.
TEST_F(CudaTraining, OrderOfExecutionChangesNoBit) {
    constexpr int64_t kSteps = 2;
    run(1, "one", kSteps, {"--dtype", "bf16"});
    {
        const Setting late("PTXEMU_ASYNC", "1");
        run(1, "late", kSteps, {"--dtype", "bf16", "--offload", "optimizer"});
        run(2, "late-two", kSteps, {"--dtype", "bf16", "--zero-stage", "3"});
    }
    const Setting shuffled("PTXEMU_SCHED", "7");
    run(2, "shuffled", kSteps, {"--dtype", "bf16", "--zero-stage", "2"});
    for (const char* name : {"late", "late-two", "shuffled"}) {
        expect_equal_runs("one", name, kSteps);
    }
}

TEST_F(CudaTraining, ARunGoesOnOnAnotherNumberOfGpus) {
    const auto part = [&](int ranks, int64_t steps, const char* stage) {
        run(ranks, "parts", steps,
            {"--dtype", "f32", "--zero-stage", stage, "--schedule", "constant"});
    };
    run(1, "whole", 3, {"--dtype", "f32", "--schedule", "constant"});
    part(2, 1, "3");
    part(1, 2, "0");
    part(3, 3, "1");
    EXPECT_EQ(weights_of(folder_ / "parts", 3), weights_of(folder_ / "whole", 3));
}

/// Events of one name in a lane of a rank's trace.
int64_t count_events(const std::string& output, int rank, const std::string& lane,
                     const std::string& name) {
    const fs::path path = fs::path(output) / ("profile.rank" + std::to_string(rank) + ".json");
    const nlohmann::json events = nlohmann::json::parse(std::ifstream(path)).at("traceEvents");
    int tid = -1;
    for (const nlohmann::json& event : events) {
        if (event.at("name") == "thread_name" && event.at("args").at("name") == lane) {
            tid = event.at("tid");
        }
    }
    return std::count_if(events.begin(), events.end(), [&](const nlohmann::json& event) {
        return event.at("ph") == "X" && event.at("tid") == tid && event.at("name") == name;
    });
}

TEST_F(CudaTraining, AProfileHasALaneAStreamAndChangesNoBit) {
    constexpr int64_t kSteps = 4;
    const Options profile = {"--dtype",   "bf16", "--zero-stage",    "3",
                             "--profile", "true", "--profile-steps", "2"};
    run(2, "plain", kSteps, {"--dtype", "bf16", "--zero-stage", "3"});
    run(2, "profiled", kSteps, profile);
    expect_equal_runs("plain", "profiled", kSteps);
    for (const int rank : {0, 1}) {
        const auto count = [&](const std::string& lane, const std::string& name) {
            return count_events(folder_ / "profiled", rank, lane, name);
        };
        // A micro-batch of two blocks in each of two steps.
        EXPECT_EQ(count("compute stream", "AttentionBackward"), 4);
        EXPECT_EQ(count("host", "AttentionBackward"), 4);
        EXPECT_GT(count("communication stream", "all_to_all"), 0);
        EXPECT_GT(count("communication stream", "all_gather"), 0);
        EXPECT_GT(count("compute stream", "wait for communication"), 0);
    }
}

TEST_F(CudaTraining, AModelIsUsedAsOnTheCpu) {
    run(1, "run", 2, {"--dtype", "f32"});
    const auto on = [&](const char* device, Options arguments) {
        arguments.insert(arguments.begin(), LATHE_BINARY);
        arguments.insert(arguments.end(),
                         {"--model", folder_ / "run", "--dtype", "f32", "--device", device});
        const ProcessResult result = run_alone(arguments);
        EXPECT_EQ(result.exit_code, 0) << result.err;
        return result.out;
    };
    const Options generate = {"generate", "--tokens", "8", "--temperature", "0"};
    EXPECT_EQ(on("cuda", generate), on("cpu", generate));
    const Options evaluate = {"evaluate", "--data", data_, "--sequences", "3", "--json"};
    const double loss = nlohmann::json::parse(on("cpu", evaluate)).at("loss");
    EXPECT_NEAR(nlohmann::json::parse(on("cuda", evaluate)).at("loss"), loss, 1e-5 * loss);
}

TEST_F(CudaTraining, MoreRanksThanGpusIsAnError) {
    const Options arguments = train("run", 1, {"--device", "cuda"});
    {
        const Setting two("PTXEMU_DEVICES", "2");
        const JobResult result = run_job(on_gpus(3, arguments), folder_ / "run", kBound_s);
        EXPECT_EQ(result.exit_code, 2);
        EXPECT_THAT(result.told, ElementsAre(AllOf(HasSubstr("device = cuda: 3 ranks on host"),
                                                   HasSubstr("which has 2 GPUs"))))
            << result.errors;
    }
    const Setting one("PTXEMU_DEVICES", "1");
    const JobResult result = run_job(on_gpus(2, arguments), folder_ / "run", kBound_s);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.told, ElementsAre(HasSubstr("ranks 0 and 1 share GPU 0000:01:00.0")))
        << result.errors;
}

TEST_F(CudaTraining, AKilledRankIsNamed) {
    Options arguments = train("run", kEndless, {"--device", "cuda", "--zero-stage", "3"});
    Job job(on_gpus(2, arguments), folder_ / "run");
    wait_for_steps(job, folder_ / "run", 2);
    job.signal_rank(1, SIGKILL);
    const JobResult result = job.wait(kBound_s);
    EXPECT_TRUE(result.in_time);
    EXPECT_EQ(result.num_left, 0);
    EXPECT_NE(result.exit_code, 0);
    EXPECT_THAT(result.told,
                ElementsAre(MatchesRegex("lathe: rank 0: [a-z_]+ number [0-9]+ \\(\"[^\"]+\", step "
                                         "[0-9]+\\) waits for rank 1, which died")))
        << result.errors;
}

}  // namespace
}  // namespace lathe::testing
