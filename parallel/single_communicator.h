// SingleCommunicator: a world of one rank, for a process that nobody else was started with.
#pragma once

#include "parallel/communicator.h"

namespace lathe {

/// Moves nothing; every operation is done at once.
std::unique_ptr<Communicator> make_single_communicator();

}  // namespace lathe
