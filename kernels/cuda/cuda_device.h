// What a GPU must be for the CUDA backend.
#pragma once

#include <string>

#include "kernels/cuda/check.h"

namespace lathe::cuda {

inline constexpr int kOldestComputeCapability = 80;

/// 10 major + minor.
int compute_capability(int device);
/// Why the device is too old, with the mend; empty where it is not.
std::string capability_complaint(int device);

}  // namespace lathe::cuda
