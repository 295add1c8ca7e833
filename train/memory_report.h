// What the ranks of a run needed of memory: by category, the least and the most of them.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

#include "kernels/backend.h"
#include "parallel/communicator.h"
#include "train/run_config.h"

namespace lathe {

/// Bytes on the rank that has the least and on the one that has the most.
struct MemoryBounds {
    int64_t min_bytes = 0;
    int64_t max_bytes = 0;
};

/// Peaks so far, over ranks.
struct MemorySpread {
    std::array<MemoryBounds, kNumMemoryCategories> categories;
    MemoryBounds total;  ///< of each rank's peak of the sum
    int num_ranks = 1;
};

/// The same on all ranks. All ranks.
MemorySpread gather_memory(Communicator& world, const MemoryUsage& mine, int64_t step);

/// "peak memory of a rank 12.0 to 13.5 MiB (parameters 2.0, gradients 3.0 to 4.5)", and what is
/// offloaded besides.
std::string memory_text(const MemorySpread& spread);

/// Writes memory.json: step, ranks, model_parameters, and by category `peak_bytes` {min, max}, with
/// what the formulas of parallel/memory_formula.h say of it where there is one: `formula` {min,
/// max} and, for the rank that needs the most, {ideal, padding, staging}.
void write_memory_file(const std::filesystem::path& file, const MemorySpread& spread,
                       const RunConfig& config, DType compute, int64_t step);

}  // namespace lathe
