// cuBLAS and cuBLASLt stand-ins against loops.

// libs: cublas cublasLt

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>

#include "common.h"
using bf = __nv_bfloat16;
static double gelu(double x) {
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
int main() {
    cublasHandle_t h;
    check(!cublasCreate(&h) && !cublasSetStream(h, 0) &&
              !cublasSetMathMode(h, CUBLAS_TF32_TENSOR_OP_MATH),
          "handle");
    int m = 13, n = 9, k = 21;
    std::vector<float> A(m * k), B(k * n), C(m * n);
    for (auto* v : {&A, &B, &C})
        for (auto& x : *v) x = rndf();
    for (int ta = 0; ta < 2; ++ta)
        for (int tb = 0; tb < 2; ++tb) {
            Dev<float> a(A), b(B), c(C);
            float al = 1.5f, be = 0.5f;
            bool ok =
                !cublasSgemm(h, ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb ? CUBLAS_OP_T : CUBLAS_OP_N, m,
                             n, k, &al, a.p, ta ? k : m, b.p, tb ? n : k, &be, c.p, m);
            auto r = c.get();
            for (int i = 0; i < m; ++i)
                for (int j = 0; j < n; ++j) {
                    double s = 0;
                    for (int q = 0; q < k; ++q)
                        s += (double)(ta ? A[i * k + q] : A[q * m + i]) *
                             (tb ? B[q * n + j] : B[j * k + q]);
                    ok &= fabs(al * s + be * C[j * m + i] - r[j * m + i]) < 1e-5;
                }
            check(ok, "sgemm");
        }
    std::vector<bf> half_a(m * k * 3), half_b(k * n * 3);
    for (auto& x : half_a) x = __float2bfloat16(rndf());
    for (auto& x : half_b) x = __float2bfloat16(rndf());
    {
        Dev<bf> a(half_a), b(half_b), c(m * n * 3);
        float al = 1, be = 0;
        bool ok = !cublasGemmStridedBatchedEx(
            h, CUBLAS_OP_T, CUBLAS_OP_N, m, n, k, &al, a.p, CUDA_R_16BF, k, m * k, b.p, CUDA_R_16BF,
            k, k * n, &be, c.p, CUDA_R_16BF, m, m * n, 3, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
        auto r = c.get();
        for (int z = 0; z < 3; ++z)
            for (int i = 0; i < m; ++i)
                for (int j = 0; j < n; ++j) {
                    double s = 0;
                    for (int q = 0; q < k; ++q)
                        s += (double)__bfloat162float(half_a[z * m * k + i * k + q]) *
                             __bfloat162float(half_b[z * k * n + j * k + q]);
                    ok &= fabs(s - __bfloat162float(r[z * m * n + j * m + i])) <
                          0.02 * fmax(1, fabs(s));
                }
        check(ok, "gemmStridedBatchedEx bf16");
        check(cublasGemmEx(h, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &al, a.p, CUDA_R_16BF, m - 1, b.p,
                           CUDA_R_16BF, k, &be, c.p, CUDA_R_16BF, m, CUBLAS_COMPUTE_32F,
                           CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_INVALID_VALUE,
              "bad leading dimension");
    }
    cublasLtHandle_t lt;
    check(!cublasLtCreate(&lt), "lt handle");
    auto run = [&](cublasLtEpilogue_t ep, float* bias, bf* aux, const bf* a, const bf* b, bf* d) {
        cublasLtMatmulDesc_t op;
        cublasLtMatrixLayout_t la, lb, ld;
        cublasLtMatmulPreference_t pf;
        cublasLtMatmulHeuristicResult_t hr;
        int got = 0;
        cublasOperation_t t = CUBLAS_OP_T, nn = CUBLAS_OP_N;
        cudaDataType_t f32 = CUDA_R_32F;
        int64_t ld8 = m;
        float al = 1, be = 0;
        bool ok = !cublasLtMatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F);
        ok &= !cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof t) &&
              !cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSB, &nn, sizeof nn);
        ok &= !cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_EPILOGUE, &ep, sizeof ep) &&
              !cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, 8) &&
              !cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &f32, 4);
        ok &= !cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux,
                                              8) &&
              !cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &ld8, 8);
        ok &= !cublasLtMatrixLayoutCreate(&la, CUDA_R_16BF, k, m, k) &&
              !cublasLtMatrixLayoutCreate(&lb, CUDA_R_16BF, k, n, k) &&
              !cublasLtMatrixLayoutCreate(&ld, CUDA_R_16BF, m, n, m);
        ok &= !cublasLtMatmulPreferenceCreate(&pf) &&
              !cublasLtMatmulAlgoGetHeuristic(lt, op, la, lb, ld, ld, pf, 1, &hr, &got) && got == 1;
        ok &=
            !cublasLtMatmul(lt, op, &al, a, la, b, lb, &be, d, ld, d, ld, &hr.algo, nullptr, 0, 0);
        return ok;
    };
    std::vector<float> bias(m);
    for (auto& x : bias) x = rndf();
    Dev<bf> a(half_a), b(half_b), d(m * n), aux(m * n);
    Dev<float> db(bias);
    std::vector<double> pre(m * n);
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
            double s = 0;
            for (int q = 0; q < k; ++q)
                s += (double)__bfloat162float(half_a[i * k + q]) *
                     __bfloat162float(half_b[j * k + q]);
            pre[j * m + i] = s;
        }
    auto near = [&](const std::vector<bf>& r, std::function<double(int)> f) {
        bool ok = true;
        for (int i = 0; i < m * n; ++i)
            ok &= fabs(f(i) - __bfloat162float(r[i])) < 0.02 * fmax(1, fabs(f(i)));
        return ok;
    };
    check(run(CUBLASLT_EPILOGUE_DEFAULT, nullptr, nullptr, a.p, b.p, d.p) &&
              near(d.get(), [&](int i) { return pre[i]; }),
          "lt default");
    check(run(CUBLASLT_EPILOGUE_BIAS, db.p, nullptr, a.p, b.p, d.p) &&
              near(d.get(), [&](int i) { return pre[i] + bias[i % m]; }),
          "lt bias");
    check(run(CUBLASLT_EPILOGUE_GELU_AUX_BIAS, db.p, aux.p, a.p, b.p, d.p) &&
              near(d.get(), [&](int i) { return gelu(pre[i] + bias[i % m]); }) &&
              near(aux.get(), [&](int i) { return pre[i] + bias[i % m]; }),
          "lt gelu aux bias");
    auto ax = aux.get();
    auto dg = [](double x) { return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5; };
    check(run(CUBLASLT_EPILOGUE_DGELU, nullptr, aux.p, a.p, b.p, d.p) &&
              near(d.get(), [&](int i) { return pre[i] * dg(__bfloat162float(ax[i])); }),
          "lt dgelu");

    return finish();
}
