// Checkpoints as they are found and read: folders that are whole or not there, and know nothing of
// ranks. Their files: train/checkpoint_files.h; who writes them: train/checkpoint_writer.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "train/checkpoint_files.h"
#include "train/trainer.h"

namespace lathe {

/// Whether `folder` is a checkpoint, perhaps a damaged one, and no mere model.
bool is_checkpoint(const std::filesystem::path& folder);

/// Reads state.json and compares every file with its checksum. Throws UsageError naming the file
/// and what is wrong.
CheckpointState verify_checkpoint(const std::filesystem::path& folder);
/// The same for all ranks: one reads, all learn.
CheckpointState verify_checkpoint(const std::filesystem::path& folder, Communicator& world);

/// Fills the trainer's parameters, optimizer and state from a checkpoint that verify_checkpoint
/// accepted.
void load_checkpoint(const std::filesystem::path& folder, const CheckpointState& state,
                     Trainer& trainer);

/// Fills the parameters from any model folder (a checkpoint, an export, one from Hugging Face);
/// moments become zero.
void load_parameters(const std::filesystem::path& folder, Trainer& trainer);

/// The checkpoints of a run folder, oldest first.
struct StoredCheckpoint {
    int64_t step = 0;
    std::filesystem::path path;
};
std::vector<StoredCheckpoint> list_checkpoints(const std::filesystem::path& run_folder);
/// RUN/checkpoints/step-00000100
std::filesystem::path checkpoint_path(const std::filesystem::path& run_folder, int64_t step);

/// Removes all but the newest `keep` and the one of lowest validation loss.
void prune_checkpoints(const std::filesystem::path& run_folder, int64_t keep);

/// The model folder that a person means: a run folder stands for its newest checkpoint, any other
/// folder for itself.
std::filesystem::path resolve_model_folder(const std::filesystem::path& path);

}  // namespace lathe
