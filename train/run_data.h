// What a run needs before its first step: the prepared data, a configuration completed from it, and
// ranks that agree on both.
#pragma once

#include <filesystem>

#include "data/dataset.h"
#include "data/tokenizer.h"
#include "kernels/backend.h"
#include "parallel/communicator.h"
#include "train/checkpoint_files.h"
#include "train/run_config.h"

namespace lathe {

/// The prepared data folder, opened. Throws UsageError naming the file and what is wrong.
struct RunData {
    explicit RunData(const std::filesystem::path& folder);

    std::filesystem::path tokenizer_path;
    DatasetInfo info;
    Tokenizer tokenizer;
    TokenDataset train;
    TokenDataset validation;
};

/// Completes the configuration from the data: the vocabulary defaults to the tokenizer's, T to the
/// model's. Throws UsageError for what cannot be trained.
void resolve(RunConfig& config, const DatasetInfo& info);

/// Throws UsageError where --resume names a folder that this run cannot start from (another model,
/// tokenizer or compute type), before anything is written.
void check_resume(const RunConfig& config, const RunData& data, DType compute);

/// Throws UsageError where this run cannot go on from the checkpoint in `folder`.
void check_continues(const std::filesystem::path& folder, const CheckpointState& state,
                     const RunConfig& config, const RunData& data, DType compute);

/// All ranks: throws UsageError where they were started with different configurations, data or
/// builds.
void check_ranks_agree(Communicator& world, const RunConfig& config, const RunData& data,
                       const Backend& backend, DType compute);

}  // namespace lathe
