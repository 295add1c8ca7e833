// A dry run: the trainer itself, over a dry backend and a dry communicator.
#pragma once

#include <cstdint>
#include <string>

#include "plan/dry_record.h"
#include "plan/hardware.h"
#include "train/run_config.h"

namespace lathe {

struct Plan {
    RunConfig config;  ///< model.vocabulary_size included
    Hardware hardware;
    int ranks = 1;
    int ranks_per_node = 0;  ///< 0: one for each device of a node; a CPU's node takes them all
    int rank = 0;            ///< whose view; rank 0 never has less to do or to keep than another
    bool keep_spans = false;

    /// Throws UsageError for a layout that cannot be, or a configuration that cannot be trained.
    void validate() const;
    int resolved_ranks_per_node() const;
    int threads() const;  ///< of a rank
    DType compute() const;
    int64_t micro_batches() const;
    int64_t tokens_per_step() const;
};

struct DryRunResult {
    MemoryUsage memory;    ///< peaks from the start on
    DryRecord record;      ///< of one step, not the first
    DryRecord checkpoint;  ///< of a checkpoint after it
    double step_s = 0.0;
    WorkTotals step;              ///< of one step
    double record_start_s = 0.0;  ///< when the recorded step began
    int64_t num_parameters = 0;
    double simulated_operations = 0.0;  ///< from the start on
    int64_t simulated_rounds = 0;  ///< of a step's rounds of micro-batches; the rest like the last
    int64_t rounds = 0;

    int64_t peak_bytes(MemoryCategory category) const {
        return memory.peak_bytes[static_cast<size_t>(category)];
    }
};

/// Initialization, the steps it takes until nothing new happens, and a checkpoint.
DryRunResult dry_run(const Plan& plan);

}  // namespace lathe
