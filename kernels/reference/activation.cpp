// GELU and SwiGLU.
#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/reference/compute.h"
#include "kernels/reference/values.h"

namespace lathe::reference {
namespace {

constexpr double kCubic = 0.044715;
const double kTanhScale = std::sqrt(2 / std::numbers::pi);

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

double activate(Activation activation, double x) {
    if (activation == Activation::gelu_exact) {
        return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
    }
    return 0.5 * x * (1 + std::tanh(kTanhScale * (x + kCubic * x * x * x)));
}

double activate_derivative(Activation activation, double x) {
    if (activation == Activation::gelu_exact) {
        const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
        return 0.5 * std::erfc(-x / std::numbers::sqrt2) + x * density;
    }
    const double tanh = std::tanh(kTanhScale * (x + kCubic * x * x * x));
    const double inner = kTanhScale * (1 + 3 * kCubic * x * x);
    return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * inner;
}

void compute(const Gelu& op) {
    std::vector<double> values = load(op.x);
    for (double& value : values) {
        value = activate(op.activation, value);
    }
    store(op.y, values);
}

void compute(const GeluBackward& op) {
    const std::vector<double> x = load(op.x);
    std::vector<double> gradient = load(op.d_y);
    for (size_t i = 0; i < x.size(); ++i) {
        gradient[i] *= activate_derivative(op.activation, x[i]);
    }
    store(op.d_x, gradient);
}

void compute(const Swiglu& op) {
    const auto width = static_cast<size_t>(op.y.columns());
    const std::vector<double> gate_up = load(op.gate_up);
    std::vector<double> y(static_cast<size_t>(op.y.size()));
    for (size_t i = 0; i < y.size(); ++i) {
        const size_t at = i / width * 2 * width + i % width;
        y[i] = gate_up[at] * sigmoid(gate_up[at]) * gate_up[at + width];
    }
    store(op.y, y);
}

// silu'(x) = sigmoid(x) (1 + x (1 - sigmoid(x)))
void compute(const SwigluBackward& op) {
    const auto width = static_cast<size_t>(op.d_y.columns());
    const std::vector<double> d_y = load(op.d_y);
    const std::vector<double> gate_up = load(op.gate_up);
    std::vector<double> d_gate_up(gate_up.size());
    for (size_t i = 0; i < d_y.size(); ++i) {
        const size_t at = i / width * 2 * width + i % width;
        const double gate = gate_up[at];
        const double up = gate_up[at + width];
        d_gate_up[at] = d_y[i] * up * sigmoid(gate) * (1 + gate * sigmoid(-gate));
        d_gate_up[at + width] = d_y[i] * gate * sigmoid(gate);
    }
    store(op.d_gate_up, d_gate_up);
}

}  // namespace lathe::reference
