// RecordedCommunicator: passes everything on to another communicator, and tells the backend's
// recorder of it, for profiles.
#pragma once

#include <memory>

#include "parallel/communicator.h"

namespace lathe {

/// Over `inner`, whose tensors are `backend`'s; both outlive it.
std::unique_ptr<Communicator> make_recorded_communicator(Communicator& inner, Backend& backend);

}  // namespace lathe
