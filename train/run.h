// A training run from its configuration to its exit code: data, run folder, resuming, validation,
// checkpoints, signals.
#pragma once

#include "parallel/communicator.h"
#include "parallel/launch.h"
#include "train/run_config.h"

namespace lathe {

/// Trains as configured, on all ranks of `world`, whose communication stream is the backend's.
/// `place` is where this rank runs, for its log.
/// Returns 0 when the last step is done, 128 + signal (130, 143) when a signal stopped it after a
/// checkpoint. Throws UsageError for a configuration, data or folder that cannot be trained on,
/// Error when it failed.
int run_training(RunConfig config, Backend& backend, Communicator& world, const RankPlace& place);

}  // namespace lathe
