#include "kernels/cuda/matmul_cublas.h"

#include <cublasLt.h>

#include <algorithm>
#include <compare>
#include <map>

#include "kernels/cuda/handles.h"
#include "kernels/error.h"

namespace lathe::cuda {
namespace {

void check_cublas(cublasStatus_t status, const char* call) {
    LATHE_CHECK(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt: {}: {} (--matmul native does without)",
                call, cublasLtGetStatusName(status));
}
#define CUBLAS_CHECK(call) check_cublas((call), #call)

using OwnedHandle = Owner<cublasLtHandle_t, cublasLtDestroy>;
using OwnedLayout = Owner<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using OwnedProduct = Owner<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using OwnedPreference = Owner<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cudaDataType_t type_of(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

/// Bytes, at most 256: what the library takes an address to be aligned to.
uint32_t alignment_of(const void* address) {
    const auto value = reinterpret_cast<uintptr_t>(address);
    return value == 0 ? 256 : static_cast<uint32_t>(std::min<uintptr_t>(value & -value, 256));
}

/// A row-major matrix is the library's, which go by columns, transposed.
OwnedLayout make_layout(DType dtype, int64_t rows, int64_t columns) {
    cublasLtMatrixLayout_t layout = nullptr;
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout, type_of(dtype), static_cast<uint64_t>(columns),
                                            static_cast<uint64_t>(rows), columns));
    return OwnedLayout(layout);
}

/// What the choice of an algorithm depends on.
struct Key {
    int64_t rows_a, columns_a, rows_b, columns_b;
    bool transpose_a, transpose_b;
    DType compute, d_type;
    bool bias, added;
    uint32_t alignment_a, alignment_b, alignment_added, alignment_d;

    auto operator<=>(const Key&) const = default;
};

Key key_of(const CublasProduct& p) {
    return {.rows_a = p.a.rows(),
            .columns_a = p.a.columns(),
            .rows_b = p.b.rows(),
            .columns_b = p.b.columns(),
            .transpose_a = p.transpose_a,
            .transpose_b = p.transpose_b,
            .compute = p.a.dtype(),
            .d_type = p.d_type,
            .bias = p.bias != nullptr,
            .added = p.added != nullptr,
            .alignment_a = alignment_of(p.a.data()),
            .alignment_b = alignment_of(p.b.data()),
            .alignment_added = alignment_of(p.added == nullptr ? p.d : p.added),
            // The bias has no setting of its own: it is read like d.
            .alignment_d = std::min(alignment_of(p.d), alignment_of(p.bias))};
}

class Library final : public CublasMatmul {
  public:
    Library() {
        cublasLtHandle_t handle = nullptr;
        CUBLAS_CHECK(cublasLtCreate(&handle));
        handle_ = OwnedHandle(handle);
    }

    void multiply(const CublasProduct& p, cudaStream_t stream) override {
        const Key key = key_of(p);
        auto found = plans_.find(key);
        if (found == plans_.end()) {
            found = plans_.emplace(key, make_plan(p, key)).first;
        }
        const Plan& plan = found->second;
        if (p.bias != nullptr) {
            set(plan.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
        }
        const float alpha = 1;
        const float beta = p.added == nullptr ? 0 : 1;
        // d^T = op(b)^T op(a)^T
        CUBLAS_CHECK(cublasLtMatmul(handle_.get(), plan.product.get(), &alpha, p.b.data(),
                                    plan.b.get(), p.a.data(), plan.a.get(), &beta,
                                    p.added == nullptr ? p.d : p.added, plan.d.get(), p.d,
                                    plan.d.get(), &plan.algorithm, p.workspace,
                                    static_cast<size_t>(p.workspace_bytes), stream));
    }

  private:
    struct Plan {
        OwnedProduct product;
        OwnedLayout a;
        OwnedLayout b;
        OwnedLayout d;
        cublasLtMatmulAlgo_t algorithm{};
    };

    template <typename T>
    static void set(const OwnedProduct& product, cublasLtMatmulDescAttributes_t attribute,
                    const T& value) {
        CUBLAS_CHECK(
            cublasLtMatmulDescSetAttribute(product.get(), attribute, &value, sizeof(value)));
    }
    template <typename T>
    static void set(const OwnedPreference& preference,
                    cublasLtMatmulPreferenceAttributes_t attribute, T value) {
        CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value,
                                                          sizeof(value)));
    }

    Plan make_plan(const CublasProduct& p, const Key& key) {
        Plan plan;
        cublasLtMatmulDesc_t product = nullptr;
        CUBLAS_CHECK(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        plan.product = OwnedProduct(product);
        set(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
        set(plan.product, CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
        if (p.bias != nullptr) {
            set(plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
            set(plan.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
        }
        plan.a = make_layout(key.compute, key.rows_a, key.columns_a);
        plan.b = make_layout(key.compute, key.rows_b, key.columns_b);
        const int64_t m = p.transpose_a ? key.columns_a : key.rows_a;
        const int64_t n = p.transpose_b ? key.rows_b : key.columns_b;
        plan.d = make_layout(key.d_type, m, n);
        plan.algorithm = choose(plan, p, key);
        return plan;
    }

    cublasLtMatmulAlgo_t choose(const Plan& plan, const CublasProduct& p, const Key& key) {
        cublasLtMatmulPreference_t handle = nullptr;
        CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&handle));
        const OwnedPreference preference(handle);
        set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
            static_cast<uint64_t>(p.workspace_bytes));
        // Parts of a sum stay f32 until they are added.
        set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
            static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
        set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.alignment_b);
        set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.alignment_a);
        set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.alignment_added);
        set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.alignment_d);
        cublasLtMatmulHeuristicResult_t result{};
        int found = 0;
        const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
            handle_.get(), plan.product.get(), plan.b.get(), plan.a.get(), plan.d.get(),
            plan.d.get(), preference.get(), 1, &result, &found);
        LATHE_CHECK(status == CUBLAS_STATUS_SUCCESS && found > 0,
                    "cuBLASLt has no algorithm for {} {}{} times {}{} ({}); use --matmul native",
                    name_of(key.compute), p.a.shape().text(), p.transpose_a ? "^T" : "",
                    p.b.shape().text(), p.transpose_b ? "^T" : "", cublasLtGetStatusName(status));
        return result.algo;
    }

    OwnedHandle handle_;
    std::map<Key, Plan> plans_;
};

}  // namespace

std::unique_ptr<CublasMatmul> make_cublas_matmul() { return std::make_unique<Library>(); }

}  // namespace lathe::cuda
