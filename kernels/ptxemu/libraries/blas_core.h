// The matrix product behind the cuBLAS and cuBLASLt stand-ins: naive, column-major, accumulated in
// double.
#pragma once
#include <cublasLt.h>
#include <cublas_v2.h>

#include <cstdint>
#include <memory>

#include "kernels/ptxemu/runtime/work.h"

namespace ptxemu_blas {

struct Mat {
    const void* p;
    cudaDataType type;
    int64_t ld, stride;
    bool row_major = false;
};

// A factor in host memory is read at the call, one in device memory when the product runs. No
// pointer: the default.
class Scalar {
  public:
    Scalar(double v = 1) : value_(v) {}
    Scalar(const void* p, cudaDataType t, bool device);
    double value() const;
    bool surely_zero() const { return !device_ && value_ == 0; }

  private:
    const void* device_ = nullptr;
    cudaDataType type_ = CUDA_R_32F;
    double value_ = 0;
};

struct Epilogue {
    unsigned kind = CUBLASLT_EPILOGUE_DEFAULT;
    void* bias = nullptr;
    cudaDataType bias_type = CUDA_R_32F;
    void* aux = nullptr;
    cudaDataType aux_type = CUDA_R_32F;
    int64_t aux_ld = 0, aux_stride = 0;
    Scalar scale_a, scale_b, scale_c, scale_d;
    float* amax_d = nullptr;
};

int type_size(cudaDataType t);  // 0: unknown

// D = epilogue(alpha op(A) op(B) + beta C), batch times
struct Problem {
    cublasOperation_t trans_a, trans_b;
    int64_t m, n, k;
    Scalar alpha;
    Mat a, b;
    Scalar beta;
    Mat c, d;
    int64_t batch;
    Epilogue epilogue;
};

// Checks it and puts it on the stream.
cublasStatus_t submit(const Problem& p, cudaStream_t stream);

}  // namespace ptxemu_blas
