// The files of a checkpoint's folder, for its writer (train/checkpoint_writer.h) and its readers
// (train/checkpoint.h).
//
//   model-00001-of-0000N.safetensors ...  parameters by unit in Hugging Face's names; with the
//                                         index, config.json and tokenizer.json the folder loads
//                                         in transformers
//   optimizer-00001-of-0000N.safetensors  by unit, in Lathe's names: NAME.first_moment,
//                                         NAME.second_moment, and NAME.master where the compute
//                                         type is not f32
//   state.json                            step, data position, what was measured
//   run.toml                              the run's configuration
//   checksums.json                        bytes and XXH3 of every other file; written last
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/safetensors.h"
#include "train/trainer.h"

namespace lathe {

constexpr const char* kChecksumsFile = "checksums.json";
constexpr const char* kStateFile = "state.json";

/// What state.json holds besides the format's version.
struct CheckpointState {
    TrainState train;
    DType compute = DType::f32;
    std::string tokenizer_fingerprint;      ///< of the data trained on
    std::optional<double> validation_loss;  ///< measured after this very step

    bool operator==(const CheckpointState&) const = default;
};

/// state.json's text.
std::string state_text(const CheckpointState& state);
/// Reads FOLDER/state.json. Throws UsageError naming the file and what is wrong.
CheckpointState read_state(const std::filesystem::path& folder);

/// "optimizer-00001-of-00008.safetensors" for unit 0 of 8.
std::string optimizer_file_name(int unit, int num_units);

/// A row of the optimizer's state, and the ending of its tensors' names.
struct OptimizerRow {
    std::string ending;
    ParamState state;
};
/// In the order in which they stand in the file.
std::vector<OptimizerRow> optimizer_rows(const ParamStore& params);

std::vector<int64_t> extents_of(const Shape& shape);

}  // namespace lathe
