// Which checkpoints a run keeps.
#include "train/checkpoint.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kernels/files.h"
#include "tests/support/temporary_folder.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;

void fake_checkpoint(const fs::path& run, int64_t step, std::optional<double> validation_loss) {
    fs::create_directories(checkpoint_path(run, step));
    const std::string loss =
        validation_loss ? fmt::format(", \"validation_loss\": {}", *validation_loss) : "";
    write_file(checkpoint_path(run, step) / "state.json",
               fmt::format("{{\"format\": 1, \"step\": {}, \"updates\": {}, \"bad_steps\": 0, "
                           "\"compute_dtype\": \"f32\", \"tokenizer_fingerprint\": \"\"{}}}",
                           step, step, loss));
}

std::vector<int64_t> steps_of(const fs::path& run) {
    std::vector<int64_t> steps;
    for (const StoredCheckpoint& checkpoint : list_checkpoints(run)) {
        steps.push_back(checkpoint.step);
    }
    return steps;
}

TEST(Checkpoints, TheNewestAndTheBestAreKept) {
    const TemporaryFolder folder;
    fake_checkpoint(folder.path(), 10, 3.0);
    fake_checkpoint(folder.path(), 20, 2.0);
    fake_checkpoint(folder.path(), 30, 2.5);
    fake_checkpoint(folder.path(), 100, std::nullopt);
    prune_checkpoints(folder.path(), 2);
    EXPECT_EQ(steps_of(folder.path()), (std::vector<int64_t>{20, 30, 100}));
    prune_checkpoints(folder.path(), 1);
    EXPECT_EQ(steps_of(folder.path()), (std::vector<int64_t>{20, 100}));
}

TEST(Checkpoints, OtherNamesAreNotCheckpoints) {
    const TemporaryFolder folder;
    fake_checkpoint(folder.path(), 7, 1.0);
    fs::create_directories(folder.path() / "checkpoints" / ".partial-step-00000009-123");
    fs::create_directories(folder.path() / "checkpoints" / "step-00000009.old");
    fs::create_directories(folder.path() / "checkpoints" / "notes");
    EXPECT_EQ(steps_of(folder.path()), (std::vector<int64_t>{7}));
    EXPECT_TRUE(list_checkpoints(folder.path() / "none").empty());
}

}  // namespace
}  // namespace lathe::testing
