// MpiTransport: messages of MPI.
#pragma once

#include <functional>
#include <memory>

#include "parallel/transport.h"

namespace lathe {

using AbortFunction = std::function<void(int world_rank, const std::string& reason, int exit_code)>;
/// Whether that rank's process is known to have ended.
using EndedFunction = std::function<bool(int world_rank)>;

/// Over a copy of MPI_COMM_WORLD; every rank calls it. `abort` must not throw. It must be gone
/// before MPI_Finalize.
std::unique_ptr<Transport> make_mpi_transport(AbortFunction abort, EndedFunction has_ended);

}  // namespace lathe
