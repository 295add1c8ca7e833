#include "kernels/cpu/gemv.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemv.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

/// Rows of b are columns of the product: one dot product each.
template <typename T>
void multiply_transposed(const T* b, const float* a, int64_t m, int64_t k, int64_t begin,
                         int64_t end, float* sums, int64_t stride) {
    for (int64_t j = begin; j < end; ++j) {
        const T* row = b + j * k;
        for (int64_t i = 0; i < m; ++i) {
            const float* left = a + i * k;
            sums[i * stride + j - begin] = sum_over(k, [&](int64_t p, auto lanes) {
                return hn::Mul(load(row + p, lanes), load(left + p, lanes));
            });
        }
    }
}

/// Columns contiguous: kDepth rows of b at a time are added to sums that stay in cache.
template <typename T>
void multiply_plain(const T* b, int64_t n, const float* a, int64_t m, int64_t k, int64_t begin,
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
            const float* left = a + i * k + p;
            float* out = sums + i * stride;
            walk(columns, [&](int64_t j, auto lanes) {
                VF sum = load(out + j, lanes);
                for (int64_t q = 0; q < kDepth; ++q) {
                    sum = hn::MulAdd(hn::Set(DF(), left[q]), load(rows + q * n + j, lanes), sum);
                }
                store(sum, out + j, lanes);
            });
        }
    }
    for (; p < k; ++p) {
        const T* row = b + p * n + begin;
        for (int64_t i = 0; i < m; ++i) {
            const VF left = hn::Set(DF(), a[i * k + p]);
            float* out = sums + i * stride;
            walk(columns, [&](int64_t j, auto lanes) {
                store(hn::MulAdd(left, load(row + j, lanes), load(out + j, lanes)), out + j, lanes);
            });
        }
    }
}

void few_rows_kernel(const Matmul& op, const float* a, int64_t m, int64_t k, int64_t begin,
                     int64_t end, float* sums, int64_t stride) {
    with_type(op.b.dtype(), [&](auto type) {
        using T = decltype(type);
        const T* b = data_of<T>(op.b);
        if (op.transpose_b) {
            multiply_transposed(b, a, m, k, begin, end, sums, stride);
        } else {
            multiply_plain(b, op.d.columns(), a, m, k, begin, end, sums, stride);
        }
    });
}

void widen_kernel(float* destination, const Tensor& source, int64_t offset, int64_t stride,
                  int64_t n) {
    with_type(source.dtype(), [&](auto type) {
        using T = decltype(type);
        const T* from = data_of<T>(source) + offset;
        if (stride == 1) {
            walk(n, [&](int64_t i, auto lanes) {
                store(load(from + i, lanes), destination + i, lanes);
            });
        } else {
            for (int64_t i = 0; i < n; ++i) {
                destination[i] = static_cast<float>(from[i * stride]);
            }
        }
    });
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(few_rows_kernel);
HWY_EXPORT(widen_kernel);

void multiply_few_rows(const Matmul& op, const float* a, int64_t m, int64_t k, int64_t begin,
                       int64_t end, float* sums, int64_t stride) {
    HWY_DYNAMIC_DISPATCH(few_rows_kernel)(op, a, m, k, begin, end, sums, stride);
}

void widen_strided(float* destination, const Tensor& source, int64_t offset, int64_t stride,
                   int64_t n) {
    HWY_DYNAMIC_DISPATCH(widen_kernel)(destination, source, offset, stride, n);
}

}  // namespace lathe::cpu
#endif
