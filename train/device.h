// Choosing the device and the compute type of a run.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "train/run_config.h"

namespace lathe {

/// The backend that the configuration asks for; `threads` 0 becomes this process's share of the
/// processors it may use, when `local_ranks` processes share the host. With `overlap` the
/// communication stream runs beside the compute stream.
std::unique_ptr<Backend> make_backend(const DeviceConfig& config, int local_ranks = 1,
                                      bool overlap = false);

/// The element type to compute in: `auto` is what the device does faster.
DType compute_dtype(const DeviceConfig& config, const Backend& backend);

}  // namespace lathe
