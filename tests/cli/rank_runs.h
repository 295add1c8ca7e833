// Runs of a tiny model on several ranks, for the tests of `mpirun lathe train`.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/support/job.h"
#include "tests/support/temporary_folder.h"

namespace lathe::testing {

/// Steps that no test waits for.
inline constexpr int64_t kEndless = 1000000;

using Options = std::vector<std::string>;

/// `lathe train` and its options, of which `more` may replace some; 12 sequences of 32 tokens a
/// step in micro-batches of 2.
Options tiny_train(const std::string& data, const std::string& output, int64_t steps,
                   const Options& more = {});
/// The same for scripts/mpirun.sh on so many ranks.
Options on_ranks(int ranks, const Options& train);

/// Returns once the job has told `steps` steps; that it never does is a test failure.
void wait_for_steps(Job& job, const std::string& output, int64_t steps);
/// So many steps stand in metrics.jsonl.
int64_t num_steps_told(const std::string& output);

/// What must not depend on the layout: the exact text of loss, gradient norm and validation loss of
/// each step.
std::map<int64_t, std::string> losses_of(const std::string& output);
/// Checksums of a checkpoint's model and optimizer files.
std::map<std::string, std::string> weights_of(const std::string& output, int64_t step);

}  // namespace lathe::testing
