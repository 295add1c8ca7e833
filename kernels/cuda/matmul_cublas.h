// NVIDIA's cuBLASLt, as Matmul uses it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

#include "kernels/tensor.h"

namespace lathe::cuda {

/// d = op(a) op(b) + bias + added.
struct CublasProduct {
    Tensor a;  ///< of Matmul
    Tensor b;
    bool transpose_a = false;
    bool transpose_b = false;
    void* d = nullptr;
    DType d_type = DType::f32;
    const void* bias = nullptr;   ///< of d's type, optional
    const void* added = nullptr;  ///< [M, N] of d's type, optional, may be d
    void* workspace = nullptr;    ///< cublas_workspace_bytes
    int64_t workspace_bytes = 0;
};

/// The library, and the algorithm that it chose for each shape so far: the first that it proposes,
/// so that the same product is always made alike.
class CublasMatmul {
  public:
    virtual ~CublasMatmul() = default;
    virtual void multiply(const CublasProduct& product, cudaStream_t stream) = 0;
};

/// Throws UsageError in a build without cuBLASLt.
std::unique_ptr<CublasMatmul> make_cublas_matmul();

}  // namespace lathe::cuda
