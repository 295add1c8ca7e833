// AdamW, and what sits between the gradients and it: ordered sums, squared norms, conversions.
#include <bit>
#include <cmath>
#include <vector>

#include "kernels/random.h"
#include "kernels/reference/compute.h"
#include "kernels/reference/values.h"

namespace lathe::reference {
namespace {

/// Adds random bits below bf16's last bit, then cuts off: up with the probability of the part lost.
bf16 round_stochastically(float value, uint32_t random_bits) {
    if (std::isnan(value)) {
        return bf16(value);
    }
    return std::bit_cast<bf16>(
        static_cast<uint16_t>((std::bit_cast<uint32_t>(value) + random_bits) >> 16));
}

}  // namespace

void compute(const AdamW& op) {
    const std::vector<double> gradient = load(op.gradient);
    std::vector<double> master = load(op.master);
    std::vector<double> first_moment = load(op.first_moment);
    std::vector<double> second_moment = load(op.second_moment);
    const double beta1 = op.beta1;
    const double beta2 = op.beta2;
    const double correction1 = 1 - std::pow(beta1, static_cast<double>(op.step));
    const double correction2 = 1 - std::pow(beta2, static_cast<double>(op.step));
    for (size_t i = 0; i < master.size(); ++i) {
        const double g = static_cast<double>(op.gradient_scale) * gradient[i];
        double& m = first_moment[i];
        double& v = second_moment[i];
        m = beta1 * m + (1 - beta1) * g;
        v = beta2 * v + (1 - beta2) * g * g;
        const double direction =
            m / correction1 / (std::sqrt(v / correction2) + static_cast<double>(op.epsilon));
        master[i] -= static_cast<double>(op.learning_rate) *
                     (direction + static_cast<double>(op.weight_decay) * master[i]);
    }
    store(op.master, master);
    store(op.first_moment, first_moment);
    store(op.second_moment, second_moment);
    if (!op.parameter) {
        return;
    }
    auto* parameter = op.parameter.as<bf16>();
    for (size_t i = 0; i < master.size(); ++i) {
        const auto value = static_cast<float>(master[i]);
        const int64_t element = op.first_element + static_cast<int64_t>(i);
        parameter[i] = op.stochastic_rounding
                           ? round_stochastically(value, rounding_bits(op.seed, element, op.step))
                           : bf16(value);
    }
}

void compute(const Accumulate& op) {
    std::vector<double> sum =
        op.assign ? std::vector<double>(static_cast<size_t>(op.sum.size())) : load(op.sum);
    for (size_t c = 0; c < op.contributions.size(); ++c) {
        const std::vector<double> contribution = load(op.contributions[c]);
        for (size_t i = 0; i < sum.size(); ++i) {
            const bool first = op.assign && c == 0;  // assigned, so that -0 stays -0
            sum[i] = first ? contribution[i] : rounded(sum[i] + contribution[i], op.sum.dtype());
        }
    }
    store(op.sum, sum);
}

void compute(const SquaredNorm& op) {
    const std::vector<double> x = load(op.x);
    std::vector<double> partial(static_cast<size_t>(op.partial.size()));
    for (size_t i = 0; i < x.size(); ++i) {
        partial[i / static_cast<size_t>(kChunkElements)] += x[i] * x[i];
    }
    store(op.partial, partial);
}

void compute(const Cast& op) { store(op.y, load(op.x)); }

}  // namespace lathe::reference
