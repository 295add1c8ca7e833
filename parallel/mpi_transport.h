// MpiTransport: messages of MPI.
#pragma once

#include <functional>
#include <memory>

#include "parallel/transport.h"

namespace lathe {

using AbortFunction = std::function<void(int world_rank, const std::string& reason, int exit_code)>;

/// Over a copy of MPI_COMM_WORLD; every rank calls it. `abort` must not throw. It must be gone
/// before MPI_Finalize.
std::unique_ptr<Transport> make_mpi_transport(AbortFunction abort);

}  // namespace lathe
