// Checkpoints: a folder that is whole or not there, and knows nothing of ranks.
//
//   model-00001-of-0000N.safetensors ...  parameters by unit in Hugging Face's names; with the
//   index, config.json and
//                                         tokenizer.json the folder loads in transformers
//   optimizer-00001-of-0000N.safetensors  by unit, in Lathe's names: NAME.first_moment,
//   NAME.second_moment, and
//                                         NAME.master where the compute type is not f32
//   state.json                            step, data position, what was measured
//   run.toml                              the run's configuration
//   checksums.json                        bytes and XXH3 of every other file; written last
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "train/trainer.h"

namespace lathe {

/// What state.json holds besides the format's version.
struct CheckpointState {
    TrainState train;
    DType compute = DType::f32;
    std::string tokenizer_fingerprint;      ///< of the data trained on
    std::optional<double> validation_loss;  ///< measured after this very step

    bool operator==(const CheckpointState&) const = default;
};

/// Writes `folder` (which must not exist) from the trainer's rows: under a temporary name, synced,
/// then renamed. On any failure nothing of it remains and earlier checkpoints are untouched.
void write_checkpoint(const std::filesystem::path& folder, Trainer& trainer,
                      const RunConfig& config, const CheckpointState& state,
                      const std::filesystem::path& tokenizer);

/// Whether `folder` was written by write_checkpoint (and so has an optimizer to go on with).
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
