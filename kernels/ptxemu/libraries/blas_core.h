// The matrix product behind the cuBLAS and cuBLASLt stand-ins: naive, column-major, accumulated in
// double.
#pragma once
#include <cublasLt.h>
#include <cublas_v2.h>

#include <cstdint>

// From libcudart: where to touch n bytes at p, or a report and null.
extern "C" void* ptxemu_range(const void* p, size_t n, const char* what);
extern "C" void ptxemu_drain(cudaStream_t s);  // runs what is queued (PTXEMU_ASYNC)

namespace ptxemu_blas {

struct Mat {
    const void* p;
    cudaDataType type;
    int64_t ld, stride;
    bool row_major = false;
};
struct Epilogue {
    unsigned kind = CUBLASLT_EPILOGUE_DEFAULT;
    void* bias = nullptr;
    cudaDataType bias_type = CUDA_R_32F;
    void* aux = nullptr;
    cudaDataType aux_type = CUDA_R_32F;
    int64_t aux_ld = 0, aux_stride = 0, bias_stride = 0;
    double scale_a = 1, scale_b = 1, scale_c = 1, scale_d = 1;
    float* amax_d = nullptr;
};

int type_size(cudaDataType t);  // 0: unknown
double load(const void* p, cudaDataType t, int64_t i);
void store(void* p, cudaDataType t, int64_t i, double v);
double scalar(const void* p, cudaDataType t, bool device);

// D = epilogue(alpha op(A) op(B) + beta C)
cublasStatus_t gemm(cublasOperation_t ta, cublasOperation_t tb, int64_t m, int64_t n, int64_t k,
                    double alpha, const Mat& A, const Mat& B, double beta, const Mat& C,
                    const Mat& D, int64_t batch, const Epilogue& e);

}  // namespace ptxemu_blas
