// Lathe's own formulas of the bytes that one rank needs for parameters, gradients, optimizer state
// and their exchange: what a Backend measures while training, to the byte.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "parallel/parallel_config.h"

namespace lathe {

/// Memory that is needed for a while, and what for.
struct NamedBytes {
    std::string name;
    int64_t bytes = 0;

    bool operator==(const NamedBytes&) const = default;
};

/// Bytes of one category on one rank; ideal + padding + staging is the peak.
struct MemoryShare {
    /// The literature's count: bytes a parameter, divided by the ranks that share them.
    double ideal_bytes = 0.0;
    /// What the rank keeps beyond that: rows of whole chunks, a padded vocabulary, and shards that
    /// are not even (negative on a rank with a smaller one).
    double padding_bytes = 0.0;
    /// What comes on top when most is in use. A negative entry is what does not exist then.
    std::vector<NamedBytes> staging;
    int64_t peak_bytes = 0;
};

struct RankMemory {
    MemoryShare parameters;
    MemoryShare gradients;
    MemoryShare optimizer;
    MemoryShare communication;
    MemoryShare offloaded;  ///< the optimizer's share, where it is offloaded
};

/// One rank of a job.
struct RankOfJob {
    int rank = 0;
    int world_size = 1;
};

/// The peaks of a rank that trains steps of `micro_batches` micro-batches (of all ranks together)
/// in the compute type `compute`, from the second step on, when all prefetching is known. Memory
/// inside the communicator (a native reduction's slices) and what writing a checkpoint gathers (a
/// unit's row) come beside it. Throws UsageError where `parallel` does not fit the ranks.
RankMemory rank_memory(const ModelConfig& model, const ParallelConfig& parallel, DType compute,
                       int64_t micro_batches, RankOfJob place);

}  // namespace lathe
