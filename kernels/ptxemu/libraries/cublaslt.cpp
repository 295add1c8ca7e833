// cuBLASLt stand-in: descriptors and cublasLtMatmul.
#include <cstring>

#include "kernels/ptxemu/libraries/blas_core.h"

using namespace ptxemu_blas;

namespace {
struct Desc {
    int32_t compute, scale, pointer_mode, trans_a, trans_b, trans_c, fill;
    uint32_t epilogue;
    void *bias, *aux;
    int64_t bias_stride, aux_ld, aux_stride;
    const void *scale_a, *scale_b, *scale_c, *scale_d;
    void* amax_d;
    int32_t aux_type, bias_type;
    int8_t fast;
};
struct Layout {
    uint32_t type;
    int32_t order;
    uint64_t rows, cols;
    int64_t ld;
    int32_t batch;
    int64_t stride;
};
static_assert(sizeof(Desc) <= sizeof(cublasLtMatmulDescOpaque_t) &&
              sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t));

struct Field {
    void* p;
    size_t n;
};
Field field(Desc* d, cublasLtMatmulDescAttributes_t a) {
    switch (a) {
        case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
            return {&d->compute, 4};
        case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
            return {&d->scale, 4};
        case CUBLASLT_MATMUL_DESC_POINTER_MODE:
            return {&d->pointer_mode, 4};
        case CUBLASLT_MATMUL_DESC_TRANSA:
            return {&d->trans_a, 4};
        case CUBLASLT_MATMUL_DESC_TRANSB:
            return {&d->trans_b, 4};
        case CUBLASLT_MATMUL_DESC_TRANSC:
            return {&d->trans_c, 4};
        case CUBLASLT_MATMUL_DESC_FILL_MODE:
            return {&d->fill, 4};
        case CUBLASLT_MATMUL_DESC_EPILOGUE:
            return {&d->epilogue, 4};
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
            return {&d->bias, 8};
        case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
            return {&d->bias_stride, 8};
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
            return {&d->aux, 8};
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
            return {&d->aux_ld, 8};
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE:
            return {&d->aux_stride, 8};
        case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER:
            return {&d->scale_a, 8};
        case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER:
            return {&d->scale_b, 8};
        case CUBLASLT_MATMUL_DESC_C_SCALE_POINTER:
            return {&d->scale_c, 8};
        case CUBLASLT_MATMUL_DESC_D_SCALE_POINTER:
            return {&d->scale_d, 8};
        case CUBLASLT_MATMUL_DESC_AMAX_D_POINTER:
            return {&d->amax_d, 8};
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
            return {&d->aux_type, 4};
        case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
            return {&d->bias_type, 4};
        case CUBLASLT_MATMUL_DESC_FAST_ACCUM:
            return {&d->fast, 1};
        default:
            return {nullptr, 0};
    }
}
Field field(Layout* l, cublasLtMatrixLayoutAttribute_t a) {
    switch (a) {
        case CUBLASLT_MATRIX_LAYOUT_TYPE:
            return {&l->type, 4};
        case CUBLASLT_MATRIX_LAYOUT_ORDER:
            return {&l->order, 4};
        case CUBLASLT_MATRIX_LAYOUT_ROWS:
            return {&l->rows, 8};
        case CUBLASLT_MATRIX_LAYOUT_COLS:
            return {&l->cols, 8};
        case CUBLASLT_MATRIX_LAYOUT_LD:
            return {&l->ld, 8};
        case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
            return {&l->batch, 4};
        case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
            return {&l->stride, 8};
        default:
            return {nullptr, 0};
    }
}
cublasStatus_t put(Field f, const void* b, size_t n) {
    if (!f.p) return CUBLAS_STATUS_SUCCESS;  // attributes that change no result
    if (!b || n != f.n) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(f.p, b, n);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t take(Field f, void* b, size_t n, size_t* w) {
    if (!f.p) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (w) *w = f.n;
    if (n < f.n) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(b, f.p, f.n);
    return CUBLAS_STATUS_SUCCESS;
}
Scalar factor(const void* p) { return p ? Scalar(p, CUDA_R_32F, true) : Scalar(1); }
}  // namespace

extern "C" {
cublasStatus_t cublasLtCreate(cublasLtHandle_t* h) {
    *h = (cublasLtHandle_t) new int;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) {
    delete (int*)h;
    return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion() { return 130000; }
const char* cublasLtGetStatusName(cublasStatus_t s) {
    return s ? "CUBLAS_STATUS_ERROR" : "CUBLAS_STATUS_SUCCESS";
}
const char* cublasLtGetStatusString(cublasStatus_t s) { return cublasLtGetStatusName(s); }

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t d, size_t n,
                                               cublasComputeType_t c, cudaDataType_t s) {
    if (n < sizeof(Desc)) return CUBLAS_STATUS_INVALID_VALUE;
    Desc* x = (Desc*)d;
    memset(x, 0, sizeof *x);
    x->compute = c;
    x->scale = s;
    x->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    x->aux_type = x->bias_type = -1;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* d, cublasComputeType_t c,
                                        cudaDataType_t s) {
    *d = new cublasLtMatmulDescOpaque_t;
    return cublasLtMatmulDescInit_internal(*d, sizeof **d, c, s);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t a, const void* b,
                                              size_t n) {
    return put(field((Desc*)d, a), b, n);
}
cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t a, void* b, size_t n,
                                              size_t* w) {
    return take(field((Desc*)d, a), b, n, w);
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t l, size_t n, cudaDataType t,
                                                 uint64_t r, uint64_t c, int64_t ld) {
    if (n < sizeof(Layout)) return CUBLAS_STATUS_INVALID_VALUE;
    *(Layout*)l = {(uint32_t)t, CUBLASLT_ORDER_COL, r, c, ld, 1, 0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* l, cudaDataType t, uint64_t r,
                                          uint64_t c, int64_t ld) {
    *l = new cublasLtMatrixLayoutOpaque_t;
    return cublasLtMatrixLayoutInit_internal(*l, sizeof **l, t, r, c, ld);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
    delete l;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l,
                                                cublasLtMatrixLayoutAttribute_t a, const void* b,
                                                size_t n) {
    return put(field((Layout*)l, a), b, n);
}
cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t l,
                                                cublasLtMatrixLayoutAttribute_t a, void* b,
                                                size_t n, size_t* w) {
    return take(field((Layout*)l, a), b, n, w);
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t p, size_t n) {
    memset(p, 0, n);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* p) {
    *p = new cublasLtMatmulPreferenceOpaque_t{};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void*, size_t) {
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int want,
                                              cublasLtMatmulHeuristicResult_t* r, int* got) {
    if (want < 1) return CUBLAS_STATUS_INVALID_VALUE;
    memset(r, 0, sizeof *r);
    r->state = CUBLAS_STATUS_SUCCESS;
    r->wavesCount = 1;
    *got = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* A, cublasLtMatrixLayout_t la, const void* B,
                              cublasLtMatrixLayout_t lb, const void* beta, const void* C,
                              cublasLtMatrixLayout_t lc, void* D, cublasLtMatrixLayout_t ldd,
                              const cublasLtMatmulAlgo_t*, void*, size_t, cudaStream_t stream) {
    if (!h || !desc || !la || !lb || !lc || !ldd) return CUBLAS_STATUS_INVALID_VALUE;
    Desc& d = *(Desc*)desc;
    Layout &a = *(Layout*)la, &b = *(Layout*)lb, &c = *(Layout*)lc, &o = *(Layout*)ldd;
    bool na = d.trans_a == CUBLAS_OP_N, nb = d.trans_b == CUBLAS_OP_N;
    int64_t m = (int64_t)o.rows, n = (int64_t)o.cols, k = (int64_t)(na ? a.cols : a.rows);
    if ((int64_t)(na ? a.rows : a.cols) != m || (int64_t)(nb ? b.cols : b.rows) != n ||
        (int64_t)(nb ? b.rows : b.cols) != k || c.rows != o.rows || c.cols != o.cols)
        return CUBLAS_STATUS_INVALID_VALUE;
    for (auto* l : {&a, &b, &c, &o})
        if (l->order != CUBLASLT_ORDER_COL && l->order != CUBLASLT_ORDER_ROW)
            return CUBLAS_STATUS_NOT_SUPPORTED;
    if (d.pointer_mode > 1 || d.trans_c != CUBLAS_OP_N) return CUBLAS_STATUS_NOT_SUPPORTED;
    auto mat = [](const void* p, Layout& l) {
        return Mat{p, (cudaDataType)l.type, l.ld, l.stride, l.order == CUBLASLT_ORDER_ROW};
    };
    Epilogue e;
    e.kind = d.epilogue;
    e.bias = d.bias;
    bool fp8 = o.type == CUDA_R_8F_E4M3 || o.type == CUDA_R_8F_E5M2;
    e.bias_type = d.bias_type >= 0 ? (cudaDataType)d.bias_type
                  : fp8            ? CUDA_R_16BF
                                   : (cudaDataType)o.type;
    e.aux = d.aux;
    e.aux_type = d.aux_type >= 0 ? (cudaDataType)d.aux_type : (cudaDataType)o.type;
    e.aux_ld = d.aux_ld;
    e.aux_stride = d.aux_stride;
    e.scale_a = factor(d.scale_a);
    e.scale_b = factor(d.scale_b);
    e.scale_c = factor(d.scale_c);
    e.scale_d = factor(d.scale_d);
    e.amax_d = (float*)d.amax_d;
    bool dev = d.pointer_mode == CUBLASLT_POINTER_MODE_DEVICE;
    return submit({(cublasOperation_t)d.trans_a, (cublasOperation_t)d.trans_b, m, n, k,
                   Scalar(alpha, (cudaDataType)d.scale, dev), mat(A, a), mat(B, b),
                   Scalar(beta, (cudaDataType)d.scale, dev), mat(C, c), mat(D, o), o.batch, e},
                  stream);
}
}
