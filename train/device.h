// Choosing the device and the compute type of a run.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "parallel/launch.h"
#include "train/run_config.h"

namespace lathe {

/// The backend that the configuration asks for, for the rank at `place`: on GPUs the one of its
/// number within the host, on the CPU with `threads` 0 its share of the processors that this
/// process may use. With `overlap` the CPU's communication stream runs beside the compute stream.
/// Throws UsageError where the device cannot be used, or there are more ranks than devices.
std::unique_ptr<Backend> make_backend(const DeviceConfig& config, const RankPlace& place = {},
                                      bool overlap = false);

/// The element type to compute in: `auto` is what the device does faster.
DType compute_dtype(const DeviceConfig& config, const Backend& backend);

}  // namespace lathe
