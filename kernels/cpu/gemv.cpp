#include "kernels/cpu/gemv.h"

#include <algorithm>

#include "kernels/cpu/epilogue.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemv.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

/// Rows of b are columns of the product: one dot product each. They are read as kRows streams far
/// apart, each from its first row to its last, as processors foresee.
template <typename T>
void multiply_transposed(const T* b, const T* a, int64_t m, int64_t k, int64_t begin, int64_t end,
                         float* sums, int64_t stride) {
    constexpr int kRows = 4;
    constexpr int kAheadBytes = 1024;
    const int64_t apart = (end - begin) / kRows;
    for (int64_t j = 0; j < apart; ++j) {
        for (int64_t i = 0; i < m; ++i) {
            dot_rows<kRows, kAheadBytes>(b + (begin + j) * k, apart * k, a + i * k, k,
                                         sums + i * stride + j, apart);
        }
    }
    for (int64_t j = kRows * apart; j < end - begin; ++j) {
        for (int64_t i = 0; i < m; ++i) {
            dot_rows<1>(b + (begin + j) * k, k, a + i * k, k, sums + i * stride + j, 1);
        }
    }
}

/// Columns contiguous: kDepth rows of b at a time are added to sums that stay in cache.
template <typename T>
void multiply_plain(const T* b, int64_t n, const T* a, int64_t m, int64_t k, int64_t begin,
                    int64_t end, float* sums, int64_t stride) {
    constexpr int64_t kDepth = 8;
    const int64_t columns = end - begin;
    for (int64_t i = 0; i < m; ++i) {
        std::fill_n(sums + i * stride, columns, 0.0F);
    }
    int64_t p = 0;
    for (; p + kDepth <= k; p += kDepth) {
        const T* rows = b + p * n + begin;
        for (int64_t i = 0; i < m; ++i) {
            const T* left = a + i * k + p;
            float* out = sums + i * stride;
            walk(columns, [&](int64_t j, auto lanes) {
                VF sum = load(out + j, lanes);
                for (int64_t q = 0; q < kDepth; ++q) {
                    sum = hn::MulAdd(hn::Set(DF(), static_cast<float>(left[q])),
                                     load(rows + q * n + j, lanes), sum);
                }
                store(sum, out + j, lanes);
            });
        }
    }
    for (; p < k; ++p) {
        const T* row = b + p * n + begin;
        for (int64_t i = 0; i < m; ++i) {
            const VF left = hn::Set(DF(), static_cast<float>(a[i * k + p]));
            float* out = sums + i * stride;
            walk(columns, [&](int64_t j, auto lanes) {
                store(hn::MulAdd(left, load(row + j, lanes), load(out + j, lanes)), out + j, lanes);
            });
        }
    }
}

/// sums[m, stride] = a b[K', begin : end]; a dense rows.
void few_rows_kernel(const Matmul& op, const void* a, int64_t k, int64_t begin, int64_t end,
                     float* sums, int64_t stride) {
    with_type(op.b.dtype(), [&](auto type) {
        using T = decltype(type);
        const T* b = data_of<T>(op.b);
        const auto* rows = static_cast<const T*>(a);
        if (op.transpose_b) {
            multiply_transposed(b, rows, op.d.rows(), k, begin, end, sums, stride);
        } else {
            multiply_plain(b, op.d.columns(), rows, op.d.rows(), k, begin, end, sums, stride);
        }
    });
}

/// rows[m, K'] = the transpose of a.
void transpose_kernel(const Matmul& op, void* rows, int64_t k) {
    with_type(op.a.dtype(), [&](auto type) {
        using T = decltype(type);
        const int64_t m = op.d.rows();
        for (int64_t i = 0; i < m; ++i) {
            for (int64_t p = 0; p < k; ++p) {
                static_cast<T*>(rows)[i * k + p] = data_of<T>(op.a)[p * m + i];
            }
        }
    });
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(few_rows_kernel);
HWY_EXPORT(transpose_kernel);

namespace {
int64_t sums_bytes(const Matmul& op) { return op.d.size() * static_cast<int64_t>(sizeof(float)); }
}  // namespace

int64_t few_rows_bytes(const Matmul& op) {
    return sums_bytes(op) + (op.transpose_a ? op.a.bytes() : 0);
}

void run_few_rows(const Matmul& op, const Team& team) {
    const int64_t m = op.d.rows();
    const int64_t n = op.d.columns();
    const int64_t k = op.transpose_a ? op.a.rows() : op.a.columns();
    auto* sums = static_cast<float*>(op.workspace.data());
    void* rows = op.a.data();
    if (op.transpose_a) {
        rows = static_cast<std::byte*>(op.workspace.data()) + sums_bytes(op);
        HWY_DYNAMIC_DISPATCH(transpose_kernel)(op, rows, k);
    }
    // Columns do not depend on each other, so the cut may depend on the number of threads.
    constexpr int64_t kGrainColumns = 64;
    parallel_ranges(team, n, kGrainColumns, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(few_rows_kernel)(op, rows, k, begin, end, sums + begin, n);
        apply_epilogue(op, sums + begin, n, 0, m, begin, end - begin);
    });
}

}  // namespace lathe::cpu
#endif
