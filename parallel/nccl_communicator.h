// The Communicator of GPUs: NCCL moves tensors on the backend's communication stream; MPI compares
// the calls beside it, and does what is of the host.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/transport.h"

namespace lathe {

/// The world, over `backend`, a CUDA backend that outlives it. Every rank calls it. Throws
/// UsageError where two ranks share a GPU or the ranks' NCCL differ, Error where NCCL cannot
/// connect them. In a build without NCCL: throws UsageError that says what to install.
std::unique_ptr<Communicator> make_nccl_communicator(Backend& backend,
                                                     std::unique_ptr<Transport> transport,
                                                     std::vector<int> world_ranks,
                                                     const std::string& host, double timeout_s);

}  // namespace lathe
