// The CUDA backend: hand-written kernels on one GPU, compute capability 8.0 and newer.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "kernels/cuda/device_profile.h"

namespace lathe {

struct CudaOptions {
    int device = 0;  ///< index among the devices that this process sees
    MatmulLibrary matmul = MatmulLibrary::native;
};

/// Devices that this process sees. Throws UsageError that says what is missing and the mend where
/// there is none: no driver, no device, an old driver, a build without CUDA.
int count_cuda_devices();

/// f32 and bf16. Throws UsageError where there is no such device, or one that is too old.
std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options);

}  // namespace lathe
