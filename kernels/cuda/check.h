// Errors of the CUDA runtime as exceptions.
#pragma once

#include <cuda_runtime.h>

#include "kernels/error.h"

namespace lathe::cuda {

/// Throws Error that names the call and CUDA's reason unless `status` is success.
inline void check_cuda(cudaError_t status, const char* call) {
    LATHE_CHECK(status == cudaSuccess, "CUDA: {}: {} ({})", call, cudaGetErrorString(status),
                cudaGetErrorName(status));
}

}  // namespace lathe::cuda

#define CUDA_CHECK(call) ::lathe::cuda::check_cuda((call), #call)
