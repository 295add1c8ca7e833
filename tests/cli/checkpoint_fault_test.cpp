// Checkpoints that are killed between any two of their writes, or meet a full disk, written while
// training waits or goes on, by one process and by three under mpirun: what was good stays good,
// and the run goes on to the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/files.h"
#include "tests/support/slow_build.h"
#include "tests/support/small_corpus.h"
#include "train/checkpoint.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr int64_t kSteps = 6;
/// Of the checkpoint in which the faults happen; one comes before it and one after.
constexpr int64_t kFaultStep = 4;

/// Moments to be killed at. With sanitizers fewer: they look for wrong accesses, which the moment
/// does not change.
constexpr size_t kSamples = test::kSlowBuild ? 2 : 5;

/// One call that changes a file, as file_faults.cpp tells it.
struct Call {
    int rank = 0;
    int number = 0;
    std::string what;
    std::string path;

    bool is_of(int64_t step) const {
        return path.find(fmt::format("step-{:08}", step)) != std::string::npos;
    }
};

struct Job {
    int ranks = 1;
    bool async = false;
    int keep = 1;  ///< so that pruning is a part of each checkpoint
    std::vector<std::string> environment = {};
};

class CheckpointFault : public ::testing::Test {
  protected:
    static void SetUpTestSuite() {
        folder_ = new TemporaryFolder();
        data_ = prepare_small_data(*folder_);
        weights_ = weights_of(traced(1), kSteps);
        ASSERT_EQ(weights_.size(), 8U);
    }
    static void TearDownTestSuite() {
        delete folder_;
        folder_ = nullptr;
    }

    static ProcessResult run(const Job& job, const std::string& name) {
        std::vector<std::string> arguments = {"train",
                                              "--data",
                                              data_,
                                              "--output",
                                              folder_->file(name),
                                              "--steps",
                                              std::to_string(kSteps),
                                              "--layers",
                                              "2",
                                              "--channels",
                                              "64",
                                              "--heads",
                                              "4",
                                              "--feed-forward",
                                              "160",
                                              "--sequence-length",
                                              "16",
                                              "--micro-batch",
                                              "2",
                                              "--global-batch",
                                              "6",
                                              "--validation-every",
                                              "0",
                                              "--validation-sequences",
                                              "4",
                                              "--checkpoint-every",
                                              "2",
                                              "--checkpoint-keep",
                                              std::to_string(job.keep),
                                              "--checkpoint-async",
                                              job.async ? "true" : "false",
                                              "--threads",
                                              "1"};
        ProcessOptions options{.environment = job.environment};
        // What OpenMPI itself never frees is no leak of ours; the faults must come first.
        options.environment.emplace_back("ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0");
        options.environment.emplace_back("FILE_FAULTS_PATH=/checkpoints/");
        const std::string preload = "LD_PRELOAD=" LATHE_FILE_FAULTS;
        if (job.ranks == 1) {
            options.environment.push_back(preload);
        } else {
            // Not into mpirun, whose signal handlers write: the faults' library may not do so
            // there.
            arguments.insert(arguments.end(), {"--zero-stage", "3", "--collective-timeout", "60"});
            arguments.insert(arguments.begin(),
                             {"-n", std::to_string(job.ranks), "-x", preload, LATHE_BINARY});
            options.program = LATHE_MPIRUN;
        }
        return run_lathe(arguments, options);
    }

    static std::vector<Call> read_calls(const std::string& file) {
        std::vector<Call> calls;
        std::ifstream in(file);
        for (Call call; in >> call.rank >> call.number >> call.what >> call.path;) {
            calls.push_back(call);
        }
        return calls;
    }

    /// Runs to the end and remembers the calls; the run's name.
    static std::string traced(int ranks) {
        const std::string name = fmt::format("whole-{}", ranks);
        const std::string file = folder_->file("trace-of-" + name);
        const ProcessResult result =
            run({.ranks = ranks, .environment = {"FILE_FAULTS_TRACE=" + file}}, name);
        EXPECT_EQ(result.exit_code, 0) << result.err;
        calls_[ranks] = read_calls(file);
        return name;
    }
    static const std::vector<Call>& calls(int ranks) {
        if (!calls_.contains(ranks)) {
            EXPECT_EQ(weights_of(traced(ranks), kSteps), weights_);
        }
        return calls_[ranks];
    }

    /// The calls that one rank makes for the checkpoint of step kFaultStep.
    static std::vector<Call> calls_of(int ranks, int rank) {
        std::vector<Call> chosen;
        for (const Call& call : calls(ranks)) {
            if (call.rank == rank && call.number > 0) {
                if (call.is_of(kSteps)) {
                    break;
                }
                if (!chosen.empty() || call.is_of(kFaultStep)) {
                    chosen.push_back(call);  // those that prune the one before, too
                }
            }
        }
        return chosen;
    }

    static std::map<std::string, std::string> weights_of(const std::string& name, int64_t step) {
        std::map<std::string, std::string> checksums;
        for (const auto& entry :
             fs::directory_iterator(checkpoint_path(folder_->path() / name, step))) {
            if (entry.path().extension() == ".safetensors") {
                checksums[entry.path().filename().string()] = checksum_file(entry.path());
            }
        }
        return checksums;
    }

    static std::vector<int64_t> stored_steps(const std::string& name) {
        std::vector<int64_t> steps;
        for (const StoredCheckpoint& stored : list_checkpoints(folder_->path() / name)) {
            EXPECT_NO_THROW(verify_checkpoint(stored.path)) << stored.path;
            steps.push_back(stored.step);
        }
        return steps;
    }

    /// Lines that begin so.
    static std::vector<std::string> lines(const std::string& text, const std::string& begin) {
        std::vector<std::string> found;
        std::istringstream in(text);
        for (std::string line; std::getline(in, line);) {
            if (line.find(begin) != std::string::npos) {
                found.push_back(line);
            }
        }
        return found;
    }

    static void expect_goes_on_to_the_same_bits(const std::string& name) {
        const ProcessResult resumed = run({}, name);
        EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
        EXPECT_EQ(weights_of(name, kSteps), weights_);
        EXPECT_EQ(std::distance(fs::directory_iterator(folder_->path() / name / "checkpoints"), {}),
                  1)
            << "leftovers";
        fs::remove_all(folder_->path() / name);
    }

    /// Kills `rank` at some of its calls, spread over all of them.
    static void kill_at_some_calls(int ranks, int rank, bool async, size_t num_samples) {
        const std::vector<Call> possible = calls_of(ranks, rank);
        ASSERT_GT(possible.size(), 20U);
        for (size_t i = 0; i < num_samples; ++i) {
            // The last call too. Neighbouring samples of the two modes differ.
            const size_t index =
                (possible.size() - 1) * (2 * i + (async ? 1 : 2)) / (2 * num_samples);
            const Call& call = possible[index];
            const std::string what =
                fmt::format("rank {} of {}, {}, call {}: {} {}", rank, ranks,
                            async ? "async" : "sync", call.number, call.what, call.path);
            const ProcessResult killed =
                run({.ranks = ranks,
                     .async = async,
                     .environment = {"FILE_FAULTS_ACTION=kill",
                                     fmt::format("FILE_FAULTS_RANK={}",
                                                 ranks == 1 ? "" : std::to_string(rank)),
                                     fmt::format("FILE_FAULTS_AT={}", call.number)}},
                    "killed");
            EXPECT_EQ(killed.exit_code, 137) << what << "\n" << killed.err;
            const std::vector<int64_t> stored = stored_steps("killed");
            ASSERT_FALSE(stored.empty()) << what;
            EXPECT_LE(stored.back(), kFaultStep) << what;
            expect_goes_on_to_the_same_bits("killed");
        }
    }

    /// The environment that makes `rank` find the disk full in writing a file of this step.
    static std::vector<std::string> full_disk(int ranks, int rank, int64_t step,
                                              const std::string& file) {
        for (const Call& call : calls(ranks)) {
            if (call.rank == rank && call.is_of(step) && call.what == "write" &&
                call.path.find(file) != std::string::npos) {
                return {"FILE_FAULTS_ACTION=full",
                        fmt::format("FILE_FAULTS_RANK={}", ranks == 1 ? "" : std::to_string(rank)),
                        fmt::format("FILE_FAULTS_AT={}", call.number)};
            }
        }
        ADD_FAILURE() << "rank " << rank << " writes no " << file;
        return {};
    }

    /// That one line tells which rank could not write which file.
    static void expect_told_once(const ProcessResult& result, const std::string& begin, int ranks,
                                 int rank, const std::string& file) {
        const std::vector<std::string> told = lines(result.err, begin);
        ASSERT_EQ(told.size(), 1U) << result.err;
        EXPECT_THAT(told[0], HasSubstr(file));
        EXPECT_THAT(told[0], HasSubstr("No space left on device"));
        EXPECT_EQ(told[0].find(fmt::format("rank {}: cannot", rank)) != std::string::npos,
                  ranks > 1)
            << told[0];
    }

    static TemporaryFolder* folder_;
    static std::string data_;
    static std::map<std::string, std::string> weights_;
    static std::map<int, std::vector<Call>> calls_;  ///< of whole runs, by the number of ranks
};
TemporaryFolder* CheckpointFault::folder_ = nullptr;
std::string CheckpointFault::data_;
std::map<std::string, std::string> CheckpointFault::weights_;
std::map<int, std::vector<Call>> CheckpointFault::calls_;

TEST_F(CheckpointFault, EachUnitIsWrittenAndReadBackByItsOwnRank) {
    std::map<std::string, std::set<int>> ranks_of_file;
    for (const Call& call : calls(3)) {
        if (call.is_of(kSteps) && call.path.ends_with(".safetensors")) {
            EXPECT_TRUE(call.what == "rename" || call.what == "read") << call.what;
        }
        const std::string file = fs::path(call.path).filename().string();
        const size_t name = std::min(file.find("model-0"), file.find("optimizer-0"));
        if (call.is_of(kSteps) && name != std::string::npos) {
            ranks_of_file[file.substr(name, file.find(".safetensors") - name)].insert(call.rank);
        }
    }
    for (int unit = 0; unit < 4; ++unit) {
        for (const char* kind : {"model", "optimizer"}) {
            const std::string file = fmt::format("{}-{:05}-of-00004", kind, unit + 1);
            EXPECT_EQ(ranks_of_file[file], std::set<int>{unit % 3}) << file;
        }
    }
}

TEST_F(CheckpointFault, KilledBetweenAnyTwoWrites) {
    for (const bool async : {false, true}) {
        kill_at_some_calls(1, 0, async, kSamples);
    }
}

TEST_F(CheckpointFault, OneOfThreeRanksKilledBetweenAnyTwoWrites) {
    for (const int rank : {0, 1, 2}) {
        for (const bool async : {false, true}) {
            if (!test::kSlowBuild || async == (rank == 1)) {
                kill_at_some_calls(3, rank, async, rank == 0 ? kSamples / 2 : 1);
            }
        }
    }
}

TEST_F(CheckpointFault, AFullDiskEndsARunThatWaits) {
    const std::string file = "optimizer-00003-of-00004";
    for (const int ranks : {1, 3}) {
        const int rank = 2 % ranks;
        const ProcessResult full =
            run({.ranks = ranks, .environment = full_disk(ranks, rank, kFaultStep, file)}, "full");
        EXPECT_EQ(full.exit_code, 1) << full.err;
        expect_told_once(full, "lathe: ", ranks, rank, file);
        EXPECT_EQ(stored_steps("full"), std::vector<int64_t>{2});
        expect_goes_on_to_the_same_bits("full");
    }
}

TEST_F(CheckpointFault, ATrainingThatGoesOnSurvivesAFullDisk) {
    for (const int ranks : {1, 3}) {
        for (const std::string file : {"model-00002-of-00004", "state.json"}) {
            const int rank = file == "state.json" ? 0 : 1 % ranks;
            const ProcessResult full =
                run({.ranks = ranks,
                     .async = true,
                     .keep = 3,
                     .environment = full_disk(ranks, rank, kFaultStep, file)},
                    "full");
            EXPECT_EQ(full.exit_code, 0) << full.err;
            expect_told_once(full, "warning: ", ranks, rank, file);
            EXPECT_TRUE(lines(full.err, "lathe: ").empty()) << full.err;
            EXPECT_EQ(stored_steps("full"), (std::vector<int64_t>{2, kSteps}));
            EXPECT_EQ(weights_of("full", kSteps), weights_);
            fs::remove_all(folder_->path() / "full");
        }
    }
}

TEST_F(CheckpointFault, TheLastCheckpointMustBeWritten) {
    const std::string file = "model-00002-of-00004";
    for (const int ranks : {1, 3}) {
        const int rank = 1 % ranks;
        const ProcessResult full = run(
            {.ranks = ranks, .async = true, .environment = full_disk(ranks, rank, kSteps, file)},
            "full");
        EXPECT_EQ(full.exit_code, 1) << full.err;
        expect_told_once(full, "lathe: ", ranks, rank, file);
        EXPECT_EQ(stored_steps("full"), std::vector<int64_t>{kFaultStep});
        expect_goes_on_to_the_same_bits("full");
    }
}

}  // namespace
}  // namespace lathe::testing
