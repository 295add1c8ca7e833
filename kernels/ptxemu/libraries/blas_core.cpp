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

namespace {

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
}  // namespace

Scalar::Scalar(const void* p, cudaDataType t, bool device) : type_(t) {
    if (p && device)
        device_ = ptxemu_range(p, (size_t)type_size(t), "cuBLAS scalar");
    else if (p)
        value_ = load(p, t, 0);
}
double Scalar::value() const { return device_ ? load(device_, type_, 0) : value_; }

namespace {

// bytes from the first to the last element of a rows x cols matrix
size_t extent(const Mat& a, int64_t rows, int64_t cols, int64_t batch) {
    if (a.row_major) std::swap(rows, cols);
    return (size_t)(((cols - 1) * a.ld + rows + (batch - 1) * a.stride) * type_size(a.type));
}
int64_t at(const Mat& a, int64_t r, int64_t c) { return a.row_major ? r * a.ld + c : c * a.ld + r; }

constexpr double kSqrt2OverPi = 0.7978845608028654;
double gelu(double x) {
    return 0.5 * x * (1 + std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x)));
}
double d_gelu(double x) {
    double t = std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * kSqrt2OverPi * (1 + 3 * 0.044715 * x * x);
}

class Gemm : public Work {
  public:
    explicit Gemm(const Problem& p) : p_(p), e_(p_.epilogue), bias_n_(has(kBiasGradB) ? p.n : p.m) {
        label = "cuBLAS call";
    }

    cublasStatus_t prepare();
    void start() override;

  private:
    // bits of cublasLtEpilogue_t
    enum : unsigned {
        kRelu = 2,
        kBias = 4,
        kDRelu = 8,
        kBiasGrad = 16,
        kGelu = 32,
        kDGelu = 64,
        kAux = 128,
        kBiasGradA = 256,
        kBiasGradB = 512
    };
    bool has(unsigned bits) const { return e_.kind & ~(unsigned)CUBLASLT_EPILOGUE_DEFAULT & bits; }
    u8* memory(const void* at, size_t bytes, bool write, const char* what) {
        uses.push_back({at, bytes, write, what});
        u8* p = (u8*)ptxemu_range(at, bytes, what);
        ok_ &= p != nullptr;
        return p;
    }
    void load_factors(int64_t batch);
    void columns(int64_t batch, int64_t c0, int64_t nc);
    double activate(double v, int64_t batch, int64_t r, int64_t c);

    const Problem p_;
    const Epilogue& e_;
    const int64_t bias_n_;
    bool ok_ = true;
    u8 *a_ = nullptr, *b_ = nullptr, *c_ = nullptr, *d_ = nullptr, *bias_ = nullptr,
       *aux_ = nullptr, *amax_at_ = nullptr;
    double alpha_ = 1, beta_ = 0, scale_d_ = 1, amax_ = 0;
    std::vector<double> fa_, fb_, sums_, bias_grad_;
};

cublasStatus_t Gemm::prepare() {
    const auto& [ta, tb, m, n, k, alpha, A, B, beta, C, D, batch, e] = p_;
    if (m < 0 || n < 0 || k < 0 || batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
    if (!type_size(A.type) || !type_size(B.type) || !type_size(C.type) || !type_size(D.type))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    bool na = ta == CUBLAS_OP_N, nb = tb == CUBLAS_OP_N;
    if (A.ld < (A.row_major == na ? k : m) || B.ld < (B.row_major == nb ? n : k) ||
        D.ld < (D.row_major ? n : m))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
    if (k > 0 && !alpha.surely_zero()) {
        a_ = memory(A.p, extent(A, na ? m : k, na ? k : m, batch), false, "cuBLAS matrix A");
        b_ = memory(B.p, extent(B, nb ? k : n, nb ? n : k, batch), false, "cuBLAS matrix B");
    }
    if (!beta.surely_zero()) c_ = memory(C.p, extent(C, m, n, batch), false, "cuBLAS matrix C");
    d_ = memory(D.p, extent(D, m, n, batch), true, "cuBLAS matrix D");
    if (has(kBias | kBiasGrad | kBiasGradA | kBiasGradB))
        bias_ = memory(e.bias, (size_t)(bias_n_ * type_size(e.bias_type)), !has(kBias),
                       "cuBLASLt bias");
    if (has(kAux)) {
        bool bits = has(kRelu | kDRelu);
        size_t bytes = (size_t)(bits ? (n * e.aux_ld + 7) / 8
                                     : ((n - 1) * e.aux_ld + m) * type_size(e.aux_type));
        aux_ = memory(e.aux, bytes, has(kRelu | kGelu), "cuBLASLt auxiliary buffer");
    }
    if (e.amax_d) amax_at_ = memory(e.amax_d, 4, true, "cuBLASLt amax");
    return ok_ ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

void Gemm::load_factors(int64_t batch) {
    const int64_t m = p_.m, n = p_.n, k = p_.k;
    bool na = p_.trans_a == CUBLAS_OP_N, nb = p_.trans_b == CUBLAS_OP_N;
    for (int64_t q = 0; q < k; ++q)
        for (int64_t r = 0; r < m; ++r)
            fa_[(size_t)(q * m + r)] =
                load(a_, p_.a.type, batch * p_.a.stride + (na ? at(p_.a, r, q) : at(p_.a, q, r)));
    for (int64_t c = 0; c < n; ++c)
        for (int64_t q = 0; q < k; ++q)
            fb_[(size_t)(c * k + q)] =
                load(b_, p_.b.type, batch * p_.b.stride + (nb ? at(p_.b, q, c) : at(p_.b, c, q)));
}

double Gemm::activate(double v, int64_t batch, int64_t r, int64_t c) {
    int64_t i = batch * e_.aux_stride + c * e_.aux_ld + r, bit = c * e_.aux_ld + r;
    if (has(kGelu)) {
        if (aux_) store(aux_, e_.aux_type, i, v);
        return gelu(v);
    }
    if (has(kRelu)) {
        u8 mask = (u8)(1 << bit % 8);
        if (aux_) aux_[bit / 8] = (u8)(v > 0 ? aux_[bit / 8] | mask : aux_[bit / 8] & ~mask);
        return v > 0 ? v : 0;
    }
    if (has(kDGelu)) return v * d_gelu(load(aux_, e_.aux_type, i));
    if (has(kDRelu)) return (aux_[bit / 8] >> bit % 8) & 1 ? v : 0;
    return v;
}

// Some columns of the result: sums in double over k, then the epilogue.
void Gemm::columns(int64_t batch, int64_t c0, int64_t nc) {
    const int64_t m = p_.m, k = p_.k;
    std::fill(sums_.begin(), sums_.end(), 0.0);
    for (int64_t q = 0; a_ && q < k; ++q) {
        const double* col = &fa_[(size_t)(q * m)];
        for (int64_t j = 0; j < nc; ++j) {
            double v = fb_[(size_t)((c0 + j) * k + q)];
            double* t = &sums_[(size_t)(j * m)];
            for (int64_t r = 0; r < m; ++r) t[r] += v * col[r];
        }
    }
    for (int64_t j = 0; j < nc; ++j)
        for (int64_t r = 0; r < m; ++r) {
            int64_t c = c0 + j;
            double v = alpha_ * sums_[(size_t)(j * m + r)];
            if (beta_ != 0) v += beta_ * load(c_, p_.c.type, batch * p_.c.stride + at(p_.c, r, c));
            if (has(kBias)) v += load(bias_, e_.bias_type, r);
            v = activate(v, batch, r, c);
            if (has(kBiasGrad)) bias_grad_[(size_t)r] += v;
            amax_ = std::fmax(amax_, std::fabs(v));
            store(d_, p_.d.type, batch * p_.d.stride + at(p_.d, r, c), v * scale_d_);
        }
}

void Gemm::start() {
    constexpr int64_t kColumns = 4;
    const int64_t m = p_.m, n = p_.n, k = p_.k;
    if (!d_) return;
    alpha_ = p_.alpha.value() * e_.scale_a.value() * e_.scale_b.value();
    beta_ = p_.beta.value() * e_.scale_c.value();
    scale_d_ = e_.scale_d.value();
    fa_.resize((size_t)(m * k));
    fb_.resize((size_t)(n * k));
    sums_.resize((size_t)(m * kColumns));
    bias_grad_.assign((size_t)bias_n_, 0.0);
    for (int64_t b = 0; b < p_.batch; ++b) {
        if (a_) load_factors(b);
        for (int64_t c = 0; c < n; c += kColumns) columns(b, c, std::min(kColumns, n - c));
        for (int64_t q = 0; has(kBiasGradA) && q < k; ++q)
            for (int64_t r = 0; r < m; ++r) bias_grad_[(size_t)r] += fa_[(size_t)(q * m + r)];
        for (int64_t c = 0; has(kBiasGradB) && c < n; ++c)
            for (int64_t q = 0; q < k; ++q) bias_grad_[(size_t)c] += fb_[(size_t)(c * k + q)];
    }
    if (has(kBiasGrad | kBiasGradA | kBiasGradB))
        for (int64_t r = 0; r < bias_n_; ++r) store(bias_, e_.bias_type, r, bias_grad_[(size_t)r]);
    float amax = (float)amax_;
    if (amax_at_) memcpy(amax_at_, &amax, 4);
}

}  // namespace

cublasStatus_t submit(const Problem& p, cudaStream_t stream) {
    auto gemm = std::make_shared<Gemm>(p);
    if (cublasStatus_t s = gemm->prepare()) return s;
    ptxemu_submit(&stream, 1, gemm);
    return CUBLAS_STATUS_SUCCESS;
}

}  // namespace ptxemu_blas
