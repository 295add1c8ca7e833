// What reaches the disk does not depend on the ranks that write it, on the layout, or on whether
// training goes on meanwhile.
#include "train/checkpoint_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/files.h"
#include "tests/support/expect_error.h"
#include "tests/support/ranks.h"
#include "tests/support/small_runs.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/token_data.h"
#include "train/checkpoint.h"
#include "train/log.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

RunConfig small_config(bool async) {
    RunConfig config = small_llama();
    config.train.micro_batch = 2;
    config.parallel.zero_stage = 3;
    config.checkpoint.checkpoint_async = async;
    return config;
}

class CheckpointWriterTest : public ::testing::Test {
  protected:
    CheckpointWriterTest() {
        write_token_data(folder_.path(), 200, 4000);
        write_file(folder_ / "tokenizer.json", "{}");
        dataset_ = std::make_unique<TokenDataset>(folder_.path(), "train");
        loader_ = std::make_unique<Loader>(*dataset_, 16, 1);
    }

    /// What a rank does with its trainer and its writer.
    using Body = std::function<void(Trainer& trainer, CheckpointWriter& writer)>;
    void run(int num_ranks, const RunConfig& config, const Body& body,
             const std::string& log = "log.txt") {
        run_ranks(num_ranks, [&](Backend& backend, Communicator& world) {
            Trainer trainer(config, backend, DType::bf16, *loader_, world);
            trainer.initialize();
            CheckpointWriter writer(
                trainer, config,
                {.tokenizer = folder_ / "tokenizer.json",
                 .end_of_text = 7,
                 .log = make_run_logger(world.rank() == 0 ? folder_.file(log) : "/dev/null")});
            body(trainer, writer);
        });
    }

    static CheckpointState state_of(const Trainer& trainer) {
        return {.train = trainer.state(),
                .compute = DType::bf16,
                .tokenizer_fingerprint = "",
                .validation_loss = {}};
    }

    /// As a run does at each step's end.
    static void poll(Trainer& trainer, CheckpointWriter& writer) {
        const std::string mine = writer.message();
        std::vector<std::string> messages;
        for (const auto& bytes : trainer.world().all_gather_bytes(
                 std::as_bytes(std::span(mine)), {.tensor = "a step's end", .step = 1})) {
            messages.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        }
        writer.poll(messages);
    }

    std::map<std::string, std::string> files_of(const std::string& name) {
        std::map<std::string, std::string> files;
        for (const auto& entry : fs::directory_iterator(folder_ / name)) {
            files[entry.path().filename().string()] = read_file(entry.path());
        }
        return files;
    }

    TemporaryFolder folder_;
    std::unique_ptr<TokenDataset> dataset_;
    std::unique_ptr<Loader> loader_;
};

TEST_F(CheckpointWriterTest, FourRanksWriteTheBytesThatOneWrites) {
    for (const bool async : {false, true}) {
        for (const int ranks : {1, 4}) {
            const std::string name = fmt::format("by-{}-{}", ranks, async);
            run(ranks, small_config(async), [&](Trainer& trainer, CheckpointWriter& writer) {
                trainer.step();
                writer.begin(folder_ / name, state_of(trainer));
                writer.wait();
            });
        }
        const auto one = files_of(fmt::format("by-1-{}", async));
        EXPECT_EQ(one.size(), 2U * 5 + 6);
        EXPECT_TRUE(files_of(fmt::format("by-4-{}", async)) == one);
        EXPECT_THAT(one.at("config.json"), HasSubstr("\"eos_token_id\": 7"));
    }
    const auto waited = files_of("by-4-false");
    for (const auto& [name, bytes] : files_of("by-4-true")) {
        if (name != "run.toml" && name != "checksums.json") {  // where the option itself stands
            EXPECT_TRUE(bytes == waited.at(name)) << name;
        }
    }
}

TEST_F(CheckpointWriterTest, TrainingGoesOnWithoutChangingTheSnapshot) {
    for (const int ranks : {1, 3}) {
        run(ranks, small_config(true), [&](Trainer& trainer, CheckpointWriter& writer) {
            trainer.step();
            writer.begin(folder_ / fmt::format("still-{}", ranks), state_of(trainer));
            writer.wait();
            writer.begin(folder_ / fmt::format("moving-{}", ranks), state_of(trainer));
            for (int step = 0; step < 3; ++step) {
                trainer.step();
                poll(trainer, writer);
            }
            writer.wait();
        });
        EXPECT_TRUE(files_of(fmt::format("moving-{}", ranks)) ==
                    files_of(fmt::format("still-{}", ranks)));
        EXPECT_NO_THROW(verify_checkpoint(folder_ / fmt::format("moving-{}", ranks)));
    }
}

TEST_F(CheckpointWriterTest, PollingAloneCompletesIt) {
    run(3, small_config(true), [&](Trainer& trainer, CheckpointWriter& writer) {
        writer.begin(folder_ / "polled", state_of(trainer));
        trainer.world().barrier({.tensor = "begun", .step = 0});
        // The timeout of the test is the bound.
        for (bool there = false; !there;) {
            poll(trainer, writer);
            there = fs::exists(folder_ / "polled");
            const auto one = static_cast<std::byte>(there);
            for (const auto& other : trainer.world().all_gather_bytes(
                     std::span(&one, 1), {.tensor = "there", .step = 0})) {
                there = there || other[0] != std::byte{0};
            }
        }
    });
    EXPECT_NO_THROW(verify_checkpoint(folder_ / "polled"));
}

TEST_F(CheckpointWriterTest, WaitingKeepsOneRowInTheBackgroundAllOfARanksUnits) {
    for (const int ranks : {1, 2}) {
        for (const bool async : {false, true}) {
            run(ranks, small_config(async), [&](Trainer& trainer, CheckpointWriter& writer) {
                writer.begin(folder_ / fmt::format("held-{}-{}", ranks, async), state_of(trainer));
                writer.wait();
                int64_t largest = 0;
                int64_t all = 0;
                const auto& units = trainer.layout().units();
                for (size_t unit = 0; unit < units.size(); ++unit) {
                    if (static_cast<int>(unit) % ranks == trainer.world().rank()) {
                        largest = std::max(largest, units[unit].size);
                        all += units[unit].size;
                    }
                }
                if (async) {  // parameters, master, two moments, as f32; less what is written by
                              // then
                    EXPECT_LE(writer.peak_snapshot_bytes(), 16 * all);
                    EXPECT_GE(writer.peak_snapshot_bytes(), 4 * largest);
                } else {
                    EXPECT_EQ(writer.peak_snapshot_bytes(), 4 * largest);
                }
            });
        }
    }
}

TEST_F(CheckpointWriterTest, AFailureIsToldOnceAndTheNextSucceeds) {
    fs::create_directories(folder_ / "taken");
    write_file(folder_ / "taken" / "file", "of somebody else");
    for (const int ranks : {1, 3}) {
        const std::string log = fmt::format("log-{}.txt", ranks);
        run(
            ranks, small_config(true),
            [&](Trainer& trainer, CheckpointWriter& writer) {
                writer.begin(folder_ / "taken", state_of(trainer));
                EXPECT_THROW(writer.wait(), Error);
                EXPECT_NO_THROW(writer.wait());  // told
                writer.begin(folder_ / "taken", state_of(trainer));
                poll(trainer, writer);  // warns
                EXPECT_NO_THROW(writer.wait());
                writer.begin(folder_ / fmt::format("free-{}", ranks), state_of(trainer));
                writer.wait();
            },
            log);
        const std::string text = read_file(folder_ / log);
        EXPECT_THAT(text, HasSubstr("taken was not written: "));
        EXPECT_THAT(text, HasSubstr("training goes on"));
        EXPECT_NO_THROW(verify_checkpoint(folder_ / fmt::format("free-{}", ranks)));
    }
    EXPECT_EQ(read_file(folder_ / "taken" / "file"), "of somebody else");
}

TEST_F(CheckpointWriterTest, AVanishedFolderIsAFailureOfTheWriting) {
    for (const int ranks : {1, 3}) {
        const fs::path path = folder_ / "runs" / "checkpoint";
        run(ranks, small_config(true), [&](Trainer& trainer, CheckpointWriter& writer) {
            writer.begin(path, state_of(trainer));
            if (trainer.world().rank() == 0) {
                fs::rename(folder_ / "runs", folder_ / fmt::format("gone-{}", ranks));
            }
            try {
                writer.wait();
                ADD_FAILURE() << "nothing was missed";
            } catch (const Error& error) {
                EXPECT_THAT(error.what(), HasSubstr("checkpoint was not written: "));
            }
        });
        EXPECT_FALSE(fs::exists(path));
    }
}

TEST_F(CheckpointWriterTest, ARankThatGoesInTheMiddleLeavesNothing) {
    const fs::path path = folder_ / "runs" / "checkpoint";
    const auto body = [&](Trainer& trainer, CheckpointWriter& writer) {
        if (trainer.world().rank() == 1) {
            // Takes part until the folder is there.
            trainer.world().all_gather_bytes({}, {.tensor = "a checkpoint", .step = 0});
            fail("gone");
        }
        writer.begin(path, state_of(trainer));
    };
    EXPECT_THROW(run(3, small_config(true), body), Error);
    EXPECT_TRUE(fs::is_empty(path.parent_path()));
}

TEST_F(CheckpointWriterTest, TheEndOfAWriterLeavesAllOrNothing) {
    for (const int ranks : {1, 3}) {
        const fs::path path = folder_ / fmt::format("runs-{}", ranks) / "checkpoint";
        run(ranks, small_config(true), [&](Trainer& trainer, CheckpointWriter& writer) {
            writer.begin(path, state_of(trainer));
        });
        // Alone it completes what is under way; of several, each stops.
        EXPECT_EQ(fs::exists(path), ranks == 1);
        EXPECT_EQ(std::distance(fs::directory_iterator(path.parent_path()), {}),
                  ranks == 1 ? 1 : 0);
    }
}

}  // namespace
}  // namespace lathe::testing
