// CrossEntropy: one pass over a row for its maximum and sum (online, Milakov & Gimelshein, arXiv
// 1805.02867), one for its gradient.
#include "kernels/cpu/cpu_backend_impl.h"
#include "kernels/cpu/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cross_entropy.cpp"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

/// The largest of n > 0 values; NaN where the largest would be hidden by one does not matter, as
/// the sum finds it.
template <typename T>
float largest(const T* x, int64_t n) {
    VF m0 = set(-std::numeric_limits<float>::infinity());
    VF m1 = m0;
    const auto lanes = static_cast<int64_t>(hn::Lanes(DF()));
    int64_t i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
        m0 = hn::Max(m0, load(x + i, Full()));
        m1 = hn::Max(m1, load(x + i + lanes, Full()));
    }
    float rest = -std::numeric_limits<float>::infinity();
    for (; i < n; ++i) {
        rest = std::max(rest, static_cast<float>(x[i]));
    }
    return std::max(rest, max_of_lanes(hn::Max(m0, m1)));
}

/// log sum exp of n values.
template <typename T>
float log_sum_exp(const T* x, int64_t n) {
    constexpr int64_t kBlock = 2048;  // stays in the first-level cache between its two readings
    float maximum = -std::numeric_limits<float>::infinity();
    float sum = 0.0F;
    for (int64_t begin = 0; begin < n; begin += kBlock) {
        const int64_t size = std::min(kBlock, n - begin);
        const float top = std::max(maximum, largest(x + begin, size));
        if (top > maximum) {
            sum *= std::exp(maximum - top);
            maximum = top;
        }
        const VF shift = set(maximum);
        sum += sum_over(size, [&](int64_t i, auto lanes) {
            return keep(exp(hn::Sub(load(x + begin + i, lanes), shift)), lanes);
        });
    }
    return maximum + std::log(sum);
}

template <typename L, typename G>
void gradient_row(const CrossEntropy& op, const L* logits, G* gradient, int64_t columns, float lse,
                  int32_t target) {
    const auto one_hot = static_cast<float>(logits[target]) - lse;
    const VF shift = set(lse);
    const VF scale = set(op.scale);
    walk(op.vocabulary, [&](int64_t i, auto lanes) {
        const VF p = exp(hn::Sub(load(logits + i, lanes), shift));
        store(hn::Mul(p, scale), gradient + i, lanes);
    });
    // p - 1 keeps its digits as expm1.
    gradient[target] = G(op.scale * std::expm1(one_hot));
    std::fill(gradient + op.vocabulary, gradient + columns, G(0.0F));
}

template <typename L, typename G>
void loss_rows(const CrossEntropy& op, int64_t begin, int64_t end) {
    const int64_t columns = op.logits.columns();
    const auto* targets = data_of<int32_t>(op.targets);
    for (int64_t n = begin; n < end; ++n) {
        const L* logits = data_of<L>(op.logits) + n * columns;
        G* gradient = op.d_logits ? data_of<G>(op.d_logits) + n * columns : nullptr;
        float loss = 0.0F;
        if (targets[n] >= 0) {
            const float lse = log_sum_exp(logits, op.vocabulary);
            loss = lse - static_cast<float>(logits[targets[n]]);
            if (gradient != nullptr) {
                gradient_row(op, logits, gradient, columns, lse, targets[n]);
            }
        } else if (gradient != nullptr) {
            std::fill(gradient, gradient + columns, G(0.0F));
        }
        data_of<float>(op.losses)[n] = loss;
    }
}

void cross_entropy_kernel(const CrossEntropy& op, int64_t begin, int64_t end) {
    with_type(op.logits.dtype(), [&](auto logit) {
        with_type(op.d_logits.dtype(), [&](auto gradient) {
            loss_rows<decltype(logit), decltype(gradient)>(op, begin, end);
        });
    });
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(cross_entropy_kernel);

int64_t CpuBackend::workspace_bytes(const CrossEntropy&) const { return 0; }

void CpuBackend::execute(const CrossEntropy& op, Stream) {
    parallel_ranges(team(), op.logits.rows(), 1, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(cross_entropy_kernel)(op, begin, end);
    });
}

}  // namespace lathe::cpu
#endif
