// Errors of the CUDA runtime as exceptions.
#pragma once

#include <cuda_runtime.h>

#include "kernels/error.h"

namespace lathe::cuda {

/// What to do about an error, where the user can do anything.
inline const char* mend_of(cudaError_t status) {
    switch (status) {
        case cudaErrorNoKernelImageForDevice:
            return "; this lathe holds no code for this GPU: build it with cmake --preset cuda "
                   "-DCMAKE_CUDA_ARCHITECTURES=native";
        case cudaErrorMemoryAllocation:
            return "; use a smaller micro-batch, recomputation, or --offload optimizer";
        case cudaErrorECCUncorrectable:
        case cudaErrorHardwareStackError:
            return "; the GPU is broken: look at nvidia-smi and dmesg, and leave it out by "
                   "CUDA_VISIBLE_DEVICES";
        default:
            return "";
    }
}

/// Throws Error that names the call and CUDA's reason unless `status` is success.
inline void check_cuda(cudaError_t status, const char* call) {
    LATHE_CHECK(status == cudaSuccess, "CUDA: {}: {} ({}){}", call, cudaGetErrorString(status),
                cudaGetErrorName(status), mend_of(status));
}

}  // namespace lathe::cuda

#define CUDA_CHECK(call) ::lathe::cuda::check_cuda((call), #call)
