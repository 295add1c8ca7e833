// The CUDA backend: hand-written kernels on one GPU, compute capability 8.0 and newer.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.h"
#include "kernels/cuda/device_profile.h"

namespace lathe {

struct CudaOptions {
    int device = 0;  ///< index among the devices that this process sees
    MatmulLibrary matmul = MatmulLibrary::native;
};

/// Why this process can use no GPU, one line with the mend: no driver, a driver older than the
/// toolkit, no device, a build without CUDA. Empty where it can.
std::string cuda_complaint();

/// Devices that this process sees. Throws UsageError with the complaint where there is none.
int count_cuda_devices();

/// f32 and bf16. Throws UsageError where there is no such device, or one that is too old.
std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options);

}  // namespace lathe
