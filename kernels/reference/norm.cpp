// LayerNorm and RMSNorm with the residual addition before them.
#include <cmath>
#include <vector>

#include "kernels/reference/compute.h"
#include "kernels/reference/values.h"

namespace lathe::reference {

void compute(const Norm& op) {
    const auto rows = static_cast<size_t>(op.x.rows());
    const auto channels = static_cast<size_t>(op.x.columns());
    const bool centred = op.kind == NormKind::layernorm;
    std::vector<double> s = load(op.x);
    const std::vector<double> residual = load(op.residual);
    const std::vector<double> weight = load(op.weight);
    const std::vector<double> bias = load(op.bias);
    for (size_t i = 0; i < s.size() && op.residual; ++i) {
        s[i] = rounded(s[i] + residual[i], op.x.dtype());
    }
    std::vector<double> y(s.size());
    std::vector<double> means(rows);
    std::vector<double> rstds(rows);
    const auto count = static_cast<double>(channels);
    for (size_t n = 0; n < rows; ++n) {
        const double* row = s.data() + n * channels;
        double mean = 0;
        for (size_t c = 0; c < channels && centred; ++c) {
            mean += row[c] / count;
        }
        double variance = 0;
        for (size_t c = 0; c < channels; ++c) {
            variance += (row[c] - mean) * (row[c] - mean) / count;
        }
        const double rstd = 1 / std::sqrt(variance + static_cast<double>(op.epsilon));
        for (size_t c = 0; c < channels; ++c) {
            y[n * channels + c] = (row[c] - mean) * rstd * weight[c] + (centred ? bias[c] : 0);
        }
        means[n] = mean;
        rstds[n] = rstd;
    }
    if (op.sum) {
        store(op.sum, s);
    }
    store(op.y, y);
    if (op.mean) {
        store(op.mean, means);
    }
    store(op.rstd, rstds);
}

// With x^ = (s - mean) rstd and g = d_y weight:
//   layernorm: d_s = rstd (g - mean(g) - x^ mean(g x^)),  rmsnorm: d_s = rstd (g - x^ mean(g x^)).
void compute(const NormBackward& op) {
    const auto rows = static_cast<size_t>(op.x.rows());
    const auto channels = static_cast<size_t>(op.x.columns());
    const bool centred = op.kind == NormKind::layernorm;
    const std::vector<double> d_y = load(op.d_y);
    const std::vector<double> s = load(op.x);
    const std::vector<double> weight = load(op.weight);
    const std::vector<double> means = load(op.mean);
    const std::vector<double> rstds = load(op.rstd);
    std::vector<double> d_x(s.size());
    if (op.d_residual) {
        d_x = load(op.d_residual);
    }
    std::vector<double> d_weight(channels);
    std::vector<double> d_bias(channels);
    std::vector<double> normed(channels);
    const auto count = static_cast<double>(channels);
    for (size_t n = 0; n < rows; ++n) {
        const double mean = centred ? means[n] : 0;
        double mean_g = 0;
        double mean_g_normed = 0;
        for (size_t c = 0; c < channels; ++c) {
            const size_t i = n * channels + c;
            normed[c] = (s[i] - mean) * rstds[n];
            const double g = d_y[i] * weight[c];
            mean_g += centred ? g / count : 0;
            mean_g_normed += g * normed[c] / count;
            d_weight[c] += d_y[i] * normed[c];
            d_bias[c] += d_y[i];
        }
        for (size_t c = 0; c < channels; ++c) {
            const size_t i = n * channels + c;
            d_x[i] += rstds[n] * (d_y[i] * weight[c] - mean_g - normed[c] * mean_g_normed);
        }
    }
    store(op.d_x, d_x);
    store(op.d_weight, d_weight);
    if (op.d_bias) {
        store(op.d_bias, d_bias);
    }
}

}  // namespace lathe::reference
