// ParallelConfig: how a run is laid out over ranks. None of it but `reduction` and `gradient_dtype`
// changes a bit of the result.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/dtype.h"

namespace lathe {

/// Ordered: every gradient's sum runs left to right over the global micro-batches: equal bits for
/// any layout. Native: all-reduce and reduce-scatter, equal within rounding.
enum class Reduction { ordered, native };

/// Optimizer: master weights (where the parameters are not themselves f32) and moments live outside
/// the device's memory (Backend::allocate_offloaded).
enum class Offload { none, optimizer };

struct ParallelConfig {
    /// ZeRO stage (Rajbhandari et al., arXiv 1910.02054): 0 nothing is sharded; 1 and 2 optimizer
    /// state (and summed gradients); 3 parameters too.
    int64_t zero_stage = 0;
    int64_t shard_size = 0;  ///< ranks that share one copy (the sharding factor); 0: the world
    Reduction reduction = Reduction::ordered;
    DType gradient_dtype = DType::f32;  ///< a micro-batch's gradient is rounded to it before it is
                                        ///< exchanged and summed
    int64_t bucket_elements =
        4194304;           ///< exchanged at once; rounded to whole chunks, at most a unit
    bool prefetch = true;  ///< stage 3: gather the next unit while this one computes
    bool overlap = true;   ///< several ranks: communicate while computing
    Offload offload = Offload::none;
    std::string offload_folder;  ///< for the CPU's files; "": the run folder
    double collective_timeout =
        300.0;  ///< seconds that a rank waits for the others before it gives up

    /// Throws UsageError naming the field: the shard size must divide the number of ranks.
    void validate(int world_size) const;
};

}  // namespace lathe
