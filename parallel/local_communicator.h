// Local communicators: the ranks are threads of one process. For tests, which run on it what
// otherwise takes several processes.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "parallel/communicator.h"

namespace lathe {

/// One communicator for each backend, rank by rank; each is used by its own thread. A backend must
/// have host memory and outlive its communicator. abort() makes every rank's waits throw the
/// reason.
std::vector<std::unique_ptr<Communicator>> make_local_communicators(
    std::span<Backend* const> backends, double timeout_s);

}  // namespace lathe
