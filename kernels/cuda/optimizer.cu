// AdamW: one pass over flat rows of parameters.
#include <cmath>

#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/flat.h"
#include "kernels/random.h"

namespace lathe::cuda {
namespace {

struct Step {
    const float* gradient;
    float* master;
    float* first_moment;
    float* second_moment;
    Bf16* parameter;  ///< may be null
    float learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale;
    float rest1, rest2;              ///< 1 - beta
    float correction1, correction2;  ///< 1 / (1 - beta^step)
    bool stochastic_rounding;
    uint64_t seed;
    int64_t first_element;
    int64_t step;
};

/// The f32 nearest below or above in bf16, up with the probability of the part lost; NaN and
/// infinity as they are.
__device__ __forceinline__ float rounded_stochastically(float value, uint32_t random_bits) {
    const uint32_t sum = (__float_as_uint(value) + random_bits) & 0xffff0000U;
    return isfinite(value) ? __uint_as_float(sum) : value;
}

template <bool kAligned>
__device__ __forceinline__ void step_span(const Step& op, int64_t begin, int64_t count) {
    // All loads first: 128 bytes a lane under way.
    const auto gradient = load_raw<float, kAligned>(op.gradient + begin, count);
    const auto first_moment = load_raw<float, kAligned>(op.first_moment + begin, count);
    const auto second_moment = load_raw<float, kAligned>(op.second_moment + begin, count);
    Span w = load_span<float, kAligned>(op.master + begin, count);
    Span m = to_span(first_moment);
    Span v = to_span(second_moment);
    const Span g_raw = to_span(gradient);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const float g = op.gradient_scale * g_raw.values[i];
        m.values[i] = fmaf(op.beta1, m.values[i], op.rest1 * g);
        v.values[i] = fmaf(op.beta2, v.values[i], op.rest2 * (g * g));
        const float root = sqrtf(v.values[i] * op.correction2);
        const float direction = m.values[i] * op.correction1 / (root + op.epsilon);
        w.values[i] =
            fmaf(-op.learning_rate, fmaf(op.weight_decay, w.values[i], direction), w.values[i]);
    }
    store_span<float, kAligned>(op.first_moment + begin, count, m);
    store_span<float, kAligned>(op.second_moment + begin, count, v);
    store_span<float, kAligned>(op.master + begin, count, w);
    if (op.parameter == nullptr) {
        return;
    }
    if (op.stochastic_rounding) {
        for (int i = 0; i < 8; ++i) {
            const int64_t element = op.first_element + begin + Span::column(i);
            w.values[i] =
                rounded_stochastically(w.values[i], rounding_bits(op.seed, element, op.step));
        }
    }
    store_span<Bf16, kAligned>(op.parameter + begin, count, w);
}

__global__ void __launch_bounds__(kFlatThreads) adamw_kernel(Step op, int64_t n, bool aligned) {
    for_each_span(n, aligned, [&](auto is_aligned, int64_t begin, int64_t count) {
        step_span<decltype(is_aligned)::value>(op, begin, count);
    });
}

}  // namespace

void CudaBackend::execute(const AdamW& op, Stream stream) {
    const auto correction = [&](float beta) {
        return static_cast<float>(1.0 / (1.0 - std::pow(double{beta}, op.step)));
    };
    const Step step = {
        .gradient = op.gradient.as<float>(),
        .master = op.master.as<float>(),
        .first_moment = op.first_moment.as<float>(),
        .second_moment = op.second_moment.as<float>(),
        .parameter = static_cast<Bf16*>(op.parameter.data()),
        .learning_rate = op.learning_rate,
        .beta1 = op.beta1,
        .beta2 = op.beta2,
        .epsilon = op.epsilon,
        .weight_decay = op.weight_decay,
        .gradient_scale = op.gradient_scale,
        .rest1 = static_cast<float>(1.0 - double{op.beta1}),
        .rest2 = static_cast<float>(1.0 - double{op.beta2}),
        .correction1 = correction(op.beta1),
        .correction2 = correction(op.beta2),
        .stochastic_rounding = op.stochastic_rounding,
        .seed = op.seed,
        .first_element = op.first_element,
        .step = op.step,
    };
    const bool aligned = are_aligned(step.gradient, step.master, step.first_moment,
                                     step.second_moment, step.parameter);
    launch_flat("AdamW", adamw_kernel, op.master.size(), this->stream(stream), step,
                op.master.size(), aligned);
}

}  // namespace lathe::cuda
