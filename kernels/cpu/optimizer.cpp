// AdamW, Accumulate, SquaredNorm: flat rows of parameters, read and written once.
#include <bit>

#include "kernels/cpu/cpu_backend_impl.h"
#include "kernels/cpu/threads.h"
#include "kernels/random.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optimizer.cpp"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

/// Cuts off the lower half after adding random bits; NaN and infinity as they are.
HWY_INLINE bf16 round_stochastically(float value, uint32_t random) {
    if (!std::isfinite(value)) {
        return bf16(value);
    }
    bf16 rounded;
    rounded.bits = static_cast<uint16_t>((std::bit_cast<uint32_t>(value) + random) >> 16);
    return rounded;
}

void adamw_kernel(const AdamW& op, int64_t begin, int64_t end) {
    const DF d;
    const float* gradient = data_of<float>(op.gradient);
    float* master = data_of<float>(op.master);
    float* first = data_of<float>(op.first_moment);
    float* second = data_of<float>(op.second_moment);
    bf16* parameter = op.parameter ? data_of<bf16>(op.parameter) : nullptr;
    const auto correction = [&](double beta) { return 1.0 - std::pow(beta, op.step); };
    const VF beta1 = hn::Set(d, op.beta1);
    const VF beta2 = hn::Set(d, op.beta2);
    const VF rest1 = hn::Set(d, static_cast<float>(1.0 - double{op.beta1}));
    const VF rest2 = hn::Set(d, static_cast<float>(1.0 - double{op.beta2}));
    const VF correction1 = hn::Set(d, static_cast<float>(1.0 / correction(op.beta1)));
    const VF correction2 = hn::Set(d, static_cast<float>(1.0 / correction(op.beta2)));
    const VF epsilon = hn::Set(d, op.epsilon);
    const VF rate = hn::Set(d, op.learning_rate);
    const VF decay = hn::Set(d, op.weight_decay);
    const VF scale = hn::Set(d, op.gradient_scale);
    walk(end - begin, [&](int64_t offset, auto lanes) {
        const int64_t i = begin + offset;
        const VF g = hn::Mul(scale, load(gradient + i, lanes));
        const VF m = hn::MulAdd(beta1, load(first + i, lanes), hn::Mul(rest1, g));
        const VF v = hn::MulAdd(beta2, load(second + i, lanes), hn::Mul(rest2, hn::Mul(g, g)));
        VF w = load(master + i, lanes);
        const VF root = hn::Sqrt(hn::Mul(v, correction2));
        const VF step = hn::Div(hn::Mul(m, correction1), hn::Add(root, epsilon));
        w = hn::NegMulAdd(rate, hn::MulAdd(decay, w, step), w);
        store(m, first + i, lanes);
        store(v, second + i, lanes);
        store(w, master + i, lanes);
        if (parameter != nullptr && !op.stochastic_rounding) {
            store(w, parameter + i, lanes);
        }
    });
    if (parameter != nullptr && op.stochastic_rounding) {
        for (int64_t i = begin; i < end; ++i) {
            parameter[i] = round_stochastically(
                master[i], rounding_bits(op.seed, op.first_element + i, op.step));
        }
    }
}

/// sum + contribution for a block that stays in the first-level cache.
template <typename T>
void add_block(float* sum, const T* contribution, int64_t n, bool assign) {
    walk(n, [&](int64_t i, auto lanes) {
        const VF value = load(contribution + i, lanes);
        store(assign ? value : hn::Add(load(sum + i, lanes), value), sum + i, lanes);
    });
}

void accumulate_kernel(const Accumulate& op, int64_t begin, int64_t end) {
    constexpr int64_t kBlock = 2048;
    float* sum = data_of<float>(op.sum);
    for (int64_t i = begin; i < end; i += kBlock) {
        const int64_t n = std::min(kBlock, end - i);
        bool assign = op.assign;
        for (const Tensor& contribution : op.contributions) {
            with_type(contribution.dtype(), [&](auto type) {
                add_block(sum + i, data_of<decltype(type)>(contribution) + i, n, assign);
            });
            assign = false;
        }
    }
}

/// Chunks [begin, end).
void squared_norm_kernel(const SquaredNorm& op, int64_t begin, int64_t end) {
    const hn::ScalableTag<double> d;
    const hn::Rebind<float, decltype(d)> df;
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    for (int64_t chunk = begin; chunk < end; ++chunk) {
        const float* x = data_of<float>(op.x) + chunk * kChunkElements;
        const int64_t n = std::min(kChunkElements, op.x.size() - chunk * kChunkElements);
        auto even = hn::Zero(d);
        auto odd = even;
        int64_t i = 0;
        for (; i + 2 * lanes <= n; i += 2 * lanes) {
            const auto a = hn::PromoteTo(d, hn::LoadU(df, x + i));
            const auto b = hn::PromoteTo(d, hn::LoadU(df, x + i + lanes));
            even = hn::MulAdd(a, a, even);
            odd = hn::MulAdd(b, b, odd);
        }
        double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
        for (; i < n; ++i) {
            sum += double{x[i]} * double{x[i]};
        }
        data_of<double>(op.partial)[chunk] = sum;
    }
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(adamw_kernel);
HWY_EXPORT(accumulate_kernel);
HWY_EXPORT(squared_norm_kernel);

int64_t CpuBackend::workspace_bytes(const AdamW&) const { return 0; }
int64_t CpuBackend::workspace_bytes(const Accumulate&) const { return 0; }
int64_t CpuBackend::workspace_bytes(const SquaredNorm&) const { return 0; }

void CpuBackend::execute(const AdamW& op, Stream) {
    parallel_ranges(team(), op.master.size(), kChunkElements, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(adamw_kernel)(op, begin, end);
    });
}

void CpuBackend::execute(const Accumulate& op, Stream) {
    parallel_ranges(team(), op.sum.size(), kChunkElements, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(accumulate_kernel)(op, begin, end);
    });
}

void CpuBackend::execute(const SquaredNorm& op, Stream) {
    parallel_ranges(team(), op.partial.size(), 1, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(squared_norm_kernel)(op, begin, end);
    });
}

}  // namespace lathe::cpu
#endif
