// A job of several ranks in one process: a thread, a CPU backend and a local communicator each.
#pragma once

#include <functional>

#include "kernels/backend.h"
#include "parallel/communicator.h"

namespace lathe::testing {

using RankBody = std::function<void(Backend& backend, Communicator& world)>;

struct RankOptions {
    int threads = 1;       ///< OpenMP threads a rank
    bool overlap = false;  ///< a communication stream beside the compute stream
    double timeout_s = 60.0;
};

/// Runs `body` on `num_ranks` ranks and waits for all. Rethrows the first rank's exception; a rank
/// that throws aborts the others.
void run_ranks(int num_ranks, const RankBody& body, const RankOptions& options = {});

}  // namespace lathe::testing
