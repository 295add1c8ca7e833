// Choosing the device and the compute type of a run.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "train/run_config.h"

namespace lathe {

/// The backend that the configuration asks for; `threads` 0 becomes the number of processors this
/// process may use.
std::unique_ptr<Backend> make_backend(const DeviceConfig& config);

/// The element type to compute in: `auto` is what the device does faster.
DType compute_dtype(const DeviceConfig& config, const Backend& backend);

}  // namespace lathe
