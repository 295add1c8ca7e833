#include "kernels/ptxemu/libraries/blas_core.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/ptxemu/interpreter/smallfloat.h"

namespace ptxemu_blas {

using namespace ptxemu;

int type_size(cudaDataType t) {
    switch (t) {
        case CUDA_R_64F:
            return 8;
        case CUDA_R_32F:
        case CUDA_R_32I:
            return 4;
        case CUDA_R_16F:
        case CUDA_R_16BF:
            return 2;
        case CUDA_R_8I:
        case CUDA_R_8F_E4M3:
        case CUDA_R_8F_E5M2:
            return 1;
        default:
            return 0;
    }
}
double load(const void* p, cudaDataType t, int64_t i) {
    switch (t) {
        case CUDA_R_64F:
            return ((const double*)p)[i];
        case CUDA_R_32F:
            return ((const float*)p)[i];
        case CUDA_R_32I:
            return ((const int32_t*)p)[i];
        case CUDA_R_16F:
            return to_f(f16{((const u16*)p)[i]});
        case CUDA_R_16BF:
            return to_f(bf16{((const u16*)p)[i]});
        case CUDA_R_8I:
            return ((const int8_t*)p)[i];
        case CUDA_R_8F_E4M3:
            return E4M3f::to(((const u8*)p)[i]);
        case CUDA_R_8F_E5M2:
            return E5M2f::to(((const u8*)p)[i]);
        default:
            return 0;
    }
}
void store(void* p, cudaDataType t, int64_t i, double v) {
    switch (t) {
        case CUDA_R_64F:
            ((double*)p)[i] = v;
            break;
        case CUDA_R_32F:
            ((float*)p)[i] = (float)v;
            break;
        case CUDA_R_32I:
            ((int32_t*)p)[i] = (int32_t)v;
            break;
        case CUDA_R_16F:
            ((u16*)p)[i] = to_h((float)v).v;
            break;
        case CUDA_R_16BF:
            ((u16*)p)[i] = to_b((float)v).v;
            break;
        case CUDA_R_8I:
            ((int8_t*)p)[i] = (int8_t)std::fmin(127, std::fmax(-128, std::nearbyint(v)));
            break;
        case CUDA_R_8F_E4M3:
            ((u8*)p)[i] = (u8)E4M3f::from(v, Rnd::RN, true);
            break;
        case CUDA_R_8F_E5M2:
            ((u8*)p)[i] = (u8)E5M2f::from(v, Rnd::RN, true);
            break;
        default:
            break;
    }
}
double scalar(const void* p, cudaDataType t, bool device) {
    if (!p) return 0;
    if (device) p = ptxemu_range(p, (size_t)type_size(t), "cuBLAS scalar");
    return p ? load(p, t, 0) : 0;
}

namespace {
// bytes from the first to the last element of a rows x cols matrix
size_t extent(const Mat& a, int64_t rows, int64_t cols, int64_t batch) {
    if (a.row_major) std::swap(rows, cols);
    return (size_t)(((cols - 1) * a.ld + rows + (batch - 1) * a.stride) * type_size(a.type));
}
int64_t at(const Mat& a, int64_t r, int64_t c) { return a.row_major ? r * a.ld + c : c * a.ld + r; }
double gelu(double x) {
    return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}
double dgelu(double x) {
    double u = 0.7978845608028654 * (x + 0.044715 * x * x * x), t = std::tanh(u);
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}
}  // namespace

cublasStatus_t gemm(cublasOperation_t ta, cublasOperation_t tb, int64_t m, int64_t n, int64_t k,
                    double alpha, const Mat& A, const Mat& B, double beta, const Mat& C,
                    const Mat& D, int64_t batch, const Epilogue& e) {
    if (m < 0 || n < 0 || k < 0 || batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
    if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
    if (!type_size(A.type) || !type_size(B.type) || !type_size(C.type) || !type_size(D.type))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    bool na = ta == CUBLAS_OP_N, nb = tb == CUBLAS_OP_N;
    if (A.ld < (A.row_major == na ? k : m) || B.ld < (B.row_major == nb ? n : k) ||
        D.ld < (D.row_major ? n : m))
        return CUBLAS_STATUS_INVALID_VALUE;
    const void *pa = nullptr, *pb = nullptr;
    if (k > 0 && alpha != 0) {
        pa = ptxemu_range(A.p, extent(A, na ? m : k, na ? k : m, batch), "cuBLAS matrix A");
        pb = ptxemu_range(B.p, extent(B, nb ? k : n, nb ? n : k, batch), "cuBLAS matrix B");
        if (!pa || !pb) return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    void* pd = ptxemu_range(D.p, extent(D, m, n, batch), "cuBLAS matrix D");
    const void* pc =
        beta != 0 ? ptxemu_range(C.p, extent(C, m, n, batch), "cuBLAS matrix C") : nullptr;
    if (!pd || (beta != 0 && !pc)) return CUBLAS_STATUS_EXECUTION_FAILED;
    unsigned act = e.kind & ~CUBLASLT_EPILOGUE_DEFAULT;
    bool bias = act & 4, relu = act & 2, ge = act & 32, dre = (act & 8), dge = act & 64,
         aux = act & 128, bgrad = act & 16, bga = act & 256, bgb = act & 512;
    int64_t bias_n = bgb ? n : m;
    void* pbias =
        (bias || bgrad || bga || bgb)
            ? ptxemu_range(e.bias, (size_t)(bias_n * type_size(e.bias_type)), "cuBLASLt bias")
            : nullptr;
    if ((bias || bgrad || bga || bgb) && !pbias) return CUBLAS_STATUS_EXECUTION_FAILED;
    bool bits = aux && (relu || dre);
    void* paux =
        aux ? ptxemu_range(e.aux,
                           (size_t)(bits ? (n * e.aux_ld + 7) / 8
                                         : ((n - 1) * e.aux_ld + m) * type_size(e.aux_type)),
                           "cuBLASLt auxiliary buffer")
            : nullptr;
    if (aux && !paux) return CUBLAS_STATUS_EXECUTION_FAILED;
    std::vector<double> fa((size_t)(m * k)), fb((size_t)(n * k));
    std::vector<double> acc((size_t)m * 4), bg((size_t)bias_n, 0.0);
    double amax = 0;
    for (int64_t b = 0; b < batch; ++b) {
        if (pa) {
            for (int64_t q = 0; q < k; ++q)
                for (int64_t r = 0; r < m; ++r)
                    fa[(size_t)(q * m + r)] =
                        load(pa, A.type, b * A.stride + (na ? at(A, r, q) : at(A, q, r)));
            for (int64_t c = 0; c < n; ++c)
                for (int64_t q = 0; q < k; ++q)
                    fb[(size_t)(c * k + q)] =
                        load(pb, B.type, b * B.stride + (nb ? at(B, q, c) : at(B, c, q)));
        }
        for (int64_t c0 = 0; c0 < n; c0 += 4) {
            int nc = (int)std::min<int64_t>(4, n - c0);
            std::fill(acc.begin(), acc.end(), 0.0);
            if (pa)
                for (int64_t q = 0; q < k; ++q) {
                    const double* col = &fa[(size_t)(q * m)];
                    for (int j = 0; j < nc; ++j) {
                        double v = fb[(size_t)((c0 + j) * k + q)];
                        double* t = &acc[(size_t)(j * m)];
                        for (int64_t r = 0; r < m; ++r) t[r] += v * col[r];
                    }
                }
            for (int j = 0; j < nc; ++j)
                for (int64_t r = 0; r < m; ++r) {
                    int64_t c = c0 + j;
                    double v = alpha * e.scale_a * e.scale_b * acc[(size_t)(j * m + r)];
                    if (beta != 0)
                        v += beta * e.scale_c * load(pc, C.type, b * C.stride + at(C, r, c));
                    if (bias) v += load(pbias, e.bias_type, r);
                    if (ge) {
                        if (aux) store(paux, e.aux_type, b * e.aux_stride + c * e.aux_ld + r, v);
                        v = gelu(v);
                    } else if (relu) {
                        if (aux) {
                            u8* z = (u8*)paux;
                            int64_t bit = c * e.aux_ld + r;
                            if (v > 0)
                                z[bit / 8] |= (u8)(1 << bit % 8);
                            else
                                z[bit / 8] &= (u8) ~(1 << bit % 8);
                        }
                        v = v > 0 ? v : 0;
                    } else if (dge)
                        v *= dgelu(load(paux, e.aux_type, b * e.aux_stride + c * e.aux_ld + r));
                    else if (dre) {
                        int64_t bit = c * e.aux_ld + r;
                        if (!((((u8*)paux)[bit / 8] >> bit % 8) & 1)) v = 0;
                    }
                    if (bgrad) bg[(size_t)r] += v;
                    amax = std::fmax(amax, std::fabs(v));
                    store(pd, D.type, b * D.stride + at(D, r, c), v * e.scale_d);
                }
        }
        if (bga)
            for (int64_t q = 0; q < k; ++q)
                for (int64_t r = 0; r < m; ++r) bg[(size_t)r] += fa[(size_t)(q * m + r)];
        if (bgb)
            for (int64_t c = 0; c < n; ++c)
                for (int64_t q = 0; q < k; ++q) bg[(size_t)c] += fb[(size_t)(c * k + q)];
    }
    if (bgrad || bga || bgb)
        for (int64_t r = 0; r < bias_n; ++r) store(pbias, e.bias_type, r, bg[(size_t)r]);
    if (e.amax_d)
        if (float* p = (float*)ptxemu_range(e.amax_d, 4, "cuBLASLt amax")) *p = (float)amax;
    return CUBLAS_STATUS_SUCCESS;
}

}  // namespace ptxemu_blas
