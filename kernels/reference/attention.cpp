// Causal attention, its gradient, and attention against a cache. One row of probabilities is held
// at a time.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/compute.h"
#include "kernels/reference/values.h"

namespace lathe::reference {
namespace {

double dot(const double* a, const double* b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) {
        sum += a[i] * b[i];
    }
    return sum;
}

void add_scaled(double* sum, double factor, const double* x, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        sum[i] += factor * x[i];
    }
}

/// Finds the heads of one packed qkv row (or of its gradient), of one y row, of log_sum_exp.
struct Layout {
    size_t batch, time, heads, kv_heads, head_size;

    Layout(const AttentionHeads& shape, const Tensor& qkv)
        : batch(static_cast<size_t>(qkv.shape()[0])),
          time(static_cast<size_t>(qkv.shape()[1])),
          heads(static_cast<size_t>(shape.heads)),
          kv_heads(static_cast<size_t>(shape.kv_heads)),
          head_size(static_cast<size_t>(shape.head_size)) {}

    size_t kv_head(size_t h) const { return h / (heads / kv_heads); }
    size_t packed(size_t b, size_t t, size_t column_head) const {
        return ((b * time + t) * (heads + 2 * kv_heads) + column_head) * head_size;
    }
    size_t query(size_t b, size_t t, size_t h) const { return packed(b, t, h); }
    size_t key(size_t b, size_t t, size_t h) const { return packed(b, t, heads + kv_head(h)); }
    size_t value(size_t b, size_t t, size_t h) const { return key(b, t, h) + kv_heads * head_size; }
    size_t output(size_t b, size_t t, size_t h) const {
        return ((b * time + t) * heads + h) * head_size;
    }
    size_t statistic(size_t b, size_t t, size_t h) const { return (b * heads + h) * time + t; }
    double scale() const { return 1 / std::sqrt(static_cast<double>(head_size)); }
};

/// q . k / sqrt(D) + slope (j - t)
double score(const double* query, const double* key, const Layout& at, double slope, size_t t,
             size_t j) {
    return dot(query, key, at.head_size) * at.scale() - slope * static_cast<double>(t - j);
}

/// Turns scores into their softmax and returns the logarithm of its denominator.
double softmax(std::vector<double>& scores) {
    const double maximum = *std::max_element(scores.begin(), scores.end());
    double denominator = 0;
    for (double& s : scores) {
        s = std::exp(s - maximum);
        denominator += s;
    }
    for (double& s : scores) {
        s /= denominator;
    }
    return maximum + std::log(denominator);
}

double slope_of(const std::vector<double>& slopes, size_t h) {
    return slopes.empty() ? 0 : slopes[h];
}

}  // namespace

void compute(const Attention& op) {
    const Layout at(op.heads, op.qkv);
    const std::vector<double> qkv = load(op.qkv);
    const std::vector<double> slopes = load(op.slopes);
    std::vector<double> y(static_cast<size_t>(op.y.size()));
    std::vector<double> log_sum_exp(static_cast<size_t>(op.log_sum_exp.size()));
    for (size_t b = 0; b < at.batch; ++b) {
        for (size_t h = 0; h < at.heads; ++h) {
            for (size_t t = 0; t < at.time; ++t) {
                std::vector<double> p(t + 1);
                for (size_t j = 0; j <= t; ++j) {
                    p[j] = score(&qkv[at.query(b, t, h)], &qkv[at.key(b, j, h)], at,
                                 slope_of(slopes, h), t, j);
                }
                log_sum_exp[at.statistic(b, t, h)] = softmax(p);
                for (size_t j = 0; j <= t; ++j) {
                    add_scaled(&y[at.output(b, t, h)], p[j], &qkv[at.value(b, j, h)], at.head_size);
                }
            }
        }
    }
    store(op.y, y);
    store(op.log_sum_exp, log_sum_exp);
}

// With p_j = exp(score_j - log_sum_exp) and delta = d_y . y:
//   d_v_j += p_j d_y,  d_score_j = p_j (d_y . v_j - delta),
//   d_q += d_score_j k_j / sqrt(D),  d_k_j += d_score_j q / sqrt(D).
void compute(const AttentionBackward& op) {
    const Layout at(op.heads, op.qkv);
    const std::vector<double> d_y = load(op.d_y);
    const std::vector<double> qkv = load(op.qkv);
    const std::vector<double> slopes = load(op.slopes);
    const std::vector<double> y = load(op.y);
    const std::vector<double> log_sum_exp = load(op.log_sum_exp);
    std::vector<double> d_qkv(qkv.size());
    for (size_t b = 0; b < at.batch; ++b) {
        for (size_t h = 0; h < at.heads; ++h) {
            for (size_t t = 0; t < at.time; ++t) {
                const size_t query = at.query(b, t, h);
                const double* d_out = &d_y[at.output(b, t, h)];
                const double delta = dot(d_out, &y[at.output(b, t, h)], at.head_size);
                for (size_t j = 0; j <= t; ++j) {
                    const size_t key = at.key(b, j, h);
                    const size_t value = at.value(b, j, h);
                    const double p =
                        std::exp(score(&qkv[query], &qkv[key], at, slope_of(slopes, h), t, j) -
                                 log_sum_exp[at.statistic(b, t, h)]);
                    add_scaled(&d_qkv[value], p, d_out, at.head_size);
                    const double d_score =
                        p * (dot(d_out, &qkv[value], at.head_size) - delta) * at.scale();
                    add_scaled(&d_qkv[query], d_score, &qkv[key], at.head_size);
                    add_scaled(&d_qkv[key], d_score, &qkv[query], at.head_size);
                }
            }
        }
    }
    store(op.d_qkv, d_qkv);
}

void compute(const CachedAttention& op) {
    const Layout at(op.heads, op.qkv);
    const auto first = static_cast<size_t>(op.first_position);
    const auto positions = static_cast<size_t>(op.key_cache.shape()[2]);
    const std::vector<double> qkv = load(op.qkv);
    const std::vector<double> slopes = load(op.slopes);
    std::vector<double> keys = load(op.key_cache);
    std::vector<double> values = load(op.value_cache);
    std::vector<double> y(static_cast<size_t>(op.y.size()));
    const auto cached = [&](size_t b, size_t position, size_t h) {
        return ((b * at.kv_heads + at.kv_head(h)) * positions + position) * at.head_size;
    };
    for (size_t b = 0; b < at.batch; ++b) {
        for (size_t h = 0; h < at.heads; ++h) {
            for (size_t i = 0; i < at.time; ++i) {
                const size_t slot = cached(b, first + i, h);
                std::copy_n(&qkv[at.key(b, i, h)], at.head_size, &keys[slot]);
                std::copy_n(&qkv[at.value(b, i, h)], at.head_size, &values[slot]);
                const size_t t = first + i;
                std::vector<double> p(t + 1);
                for (size_t j = 0; j <= t; ++j) {
                    p[j] = score(&qkv[at.query(b, i, h)], &keys[cached(b, j, h)], at,
                                 slope_of(slopes, h), t, j);
                }
                softmax(p);
                for (size_t j = 0; j <= t; ++j) {
                    add_scaled(&y[at.output(b, i, h)], p[j], &values[cached(b, j, h)],
                               at.head_size);
                }
            }
        }
    }
    store(op.key_cache, keys);
    store(op.value_cache, values);
    store(op.y, y);
}

}  // namespace lathe::reference
