// Launching kernels, and choosing among their instances by element type.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/element.h"
#include "kernels/tensor.h"

namespace lathe::cuda {

/// Where and how a kernel runs.
struct LaunchShape {
    dim3 blocks;
    dim3 threads;
    int64_t shared_bytes = 0;  ///< dynamic
    cudaStream_t stream = nullptr;
};

/// Issues kernel<<<...>>>(arguments...); a launch that the device refuses is an Error that names
/// it.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const LaunchShape& shape,
            Arguments... arguments) {
    constexpr int64_t kSharedBytesWithoutOptIn = int64_t{48} << 10;
    if (shape.shared_bytes > kSharedBytesWithoutOptIn) {
        check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        static_cast<int>(shape.shared_bytes)),
                   name);
    }
    kernel<<<shape.blocks, shape.threads, static_cast<size_t>(shape.shared_bytes), shape.stream>>>(
        arguments...);
    check_cuda(cudaPeekAtLastError(), name);
}

/// Calls function(float{}) or function(bf16{}) (device types) by the element type.
template <typename Function>
void for_compute_type(DType dtype, Function&& function) {
    switch (dtype) {
        case DType::f32:
            return function(float{});
        case DType::bf16:
            return function(Bf16{});
        case DType::f64:
        case DType::i32:
            break;
    }
    fail("the CUDA backend computes in f32 and bf16, not {}", name_of(dtype));
}

/// ceil(a / b) for positive numbers.
constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace lathe::cuda
