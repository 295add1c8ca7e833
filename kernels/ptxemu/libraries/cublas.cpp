// cuBLAS stand-in.
#include "kernels/ptxemu/libraries/blas_core.h"

using namespace ptxemu_blas;

namespace {
struct Handle {
    cudaStream_t stream = nullptr;
    cublasPointerMode_t mode = CUBLAS_POINTER_MODE_HOST;
    cublasMath_t math = CUBLAS_DEFAULT_MATH;
};
bool dev(cublasHandle_t h) { return ((Handle*)h)->mode == CUBLAS_POINTER_MODE_DEVICE; }
cudaDataType scale_type(cublasComputeType_t c) {
    return c == CUBLAS_COMPUTE_64F || c == CUBLAS_COMPUTE_64F_PEDANTIC   ? CUDA_R_64F
           : c == CUBLAS_COMPUTE_16F || c == CUBLAS_COMPUTE_16F_PEDANTIC ? CUDA_R_16F
           : c == CUBLAS_COMPUTE_32I || c == CUBLAS_COMPUTE_32I_PEDANTIC ? CUDA_R_32I
                                                                         : CUDA_R_32F;
}
cublasStatus_t run(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int64_t m,
                   int64_t n, int64_t k, const void* al, const void* A, cudaDataType at,
                   int64_t lda, int64_t sa, const void* B, cudaDataType bt, int64_t ldb, int64_t sb,
                   const void* be, void* C, cudaDataType ct, int64_t ldc, int64_t sc, int64_t batch,
                   cudaDataType st) {
    if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
    Mat c{C, ct, ldc, sc};
    Problem p{ta,
              tb,
              m,
              n,
              k,
              Scalar(al, st, dev(h)),
              {A, at, lda, sa},
              {B, bt, ldb, sb},
              Scalar(be, st, dev(h)),
              c,
              c,
              batch,
              {}};
    return submit(p, ((Handle*)h)->stream);
}
}  // namespace

extern "C" {
cublasStatus_t cublasCreate_v2(cublasHandle_t* h) {
    *h = (cublasHandle_t) new Handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t h) {
    delete (Handle*)h;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int* v) {
    *v = 130000;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t h, cudaStream_t s) {
    ((Handle*)h)->stream = s;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetStream_v2(cublasHandle_t h, cudaStream_t* s) {
    *s = ((Handle*)h)->stream;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t h, cublasMath_t m) {
    ((Handle*)h)->math = m;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetMathMode(cublasHandle_t h, cublasMath_t* m) {
    *m = ((Handle*)h)->math;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t h, cublasPointerMode_t m) {
    ((Handle*)h)->mode = m;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t h, cublasPointerMode_t* m) {
    *m = ((Handle*)h)->mode;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void*, size_t) {
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetAtomicsMode(cublasHandle_t, cublasAtomicsMode_t) {
    return CUBLAS_STATUS_SUCCESS;
}
const char* cublasGetStatusName(cublasStatus_t s) {
    return s == CUBLAS_STATUS_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
           : s == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE"
           : s == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                              : "CUBLAS_STATUS_EXECUTION_FAILED";
}
const char* cublasGetStatusString(cublasStatus_t s) { return cublasGetStatusName(s); }

cublasStatus_t cublasSgemm_v2(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m,
                              int n, int k, const float* al, const float* A, int lda,
                              const float* B, int ldb, const float* be, float* C, int ldc) {
    return run(h, ta, tb, m, n, k, al, A, CUDA_R_32F, lda, 0, B, CUDA_R_32F, ldb, 0, be, C,
               CUDA_R_32F, ldc, 0, 1, CUDA_R_32F);
}
cublasStatus_t cublasDgemm_v2(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m,
                              int n, int k, const double* al, const double* A, int lda,
                              const double* B, int ldb, const double* be, double* C, int ldc) {
    return run(h, ta, tb, m, n, k, al, A, CUDA_R_64F, lda, 0, B, CUDA_R_64F, ldb, 0, be, C,
               CUDA_R_64F, ldc, 0, 1, CUDA_R_64F);
}
cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t h, cublasOperation_t ta,
                                         cublasOperation_t tb, int m, int n, int k, const float* al,
                                         const float* A, int lda, long long sa, const float* B,
                                         int ldb, long long sb, const float* be, float* C, int ldc,
                                         long long sc, int batch) {
    return run(h, ta, tb, m, n, k, al, A, CUDA_R_32F, lda, sa, B, CUDA_R_32F, ldb, sb, be, C,
               CUDA_R_32F, ldc, sc, batch, CUDA_R_32F);
}
cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m,
                            int n, int k, const void* al, const void* A, cudaDataType at, int lda,
                            const void* B, cudaDataType bt, int ldb, const void* be, void* C,
                            cudaDataType ct, int ldc, cublasComputeType_t comp, cublasGemmAlgo_t) {
    return run(h, ta, tb, m, n, k, al, A, at, lda, 0, B, bt, ldb, 0, be, C, ct, ldc, 0, 1,
               scale_type(comp));
}
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t h, cublasOperation_t ta,
                                          cublasOperation_t tb, int m, int n, int k, const void* al,
                                          const void* A, cudaDataType at, int lda, long long sa,
                                          const void* B, cudaDataType bt, int ldb, long long sb,
                                          const void* be, void* C, cudaDataType ct, int ldc,
                                          long long sc, int batch, cublasComputeType_t comp,
                                          cublasGemmAlgo_t) {
    return run(h, ta, tb, m, n, k, al, A, at, lda, sa, B, bt, ldb, sb, be, C, ct, ldc, sc, batch,
               scale_type(comp));
}
}
