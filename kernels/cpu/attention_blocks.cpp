#include "kernels/cpu/attention_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_blocks.cpp"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

/// 0, 1, 2, ... as f32.
HWY_INLINE VF lane_numbers() { return hn::ConvertTo(DF(), hn::Iota(DI(), 0)); }

HWY_INLINE float max_over(const float* x, int64_t n) {
    VF best = set(-std::numeric_limits<float>::infinity());
    const auto lanes = static_cast<int64_t>(hn::Lanes(DF()));
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        best = hn::Max(best, load(x + i, Full()));
    }
    float rest = -std::numeric_limits<float>::infinity();
    for (; i < n; ++i) {
        rest = std::max(rest, x[i]);
    }
    return std::max(rest, max_of_lanes(best));
}

void rescale(float* x, int64_t n, float factor) {
    const VF by = set(factor);
    walk(n, [&](int64_t i, auto lanes) { store(hn::Mul(load(x + i, lanes), by), x + i, lanes); });
}

template <typename P>
void softmax_row(const SoftmaxBlock& block, int64_t row, bool first) {
    float* scores = block.scores + row * block.keys;
    P* probabilities = static_cast<P*>(block.probabilities) + row * block.keys;
    const int64_t visible = std::min(block.keys, block.query + row - block.key + 1);
    float scale = block.scale;
    if (block.slope != 0.0F) {
        const VF slope = set(block.slope);
        const VF numbers = lane_numbers();
        const int64_t distance = block.key - block.query - row;
        walk(visible, [&](int64_t i, auto lanes) {
            const VF away = hn::Add(numbers, set(static_cast<float>(distance + i)));
            const VF s = hn::Mul(load(scores + i, lanes), set(block.scale));
            store(hn::MulAdd(slope, away, s), scores + i, lanes);
        });
        scale = 1.0F;
    }
    float maximum = max_over(scores, visible) * scale;
    float kept = 0.0F;
    if (!first) {
        maximum = std::max(maximum, block.maximum[row]);
        kept = block.sum[row];
        if (maximum > block.maximum[row]) {
            const float factor = std::exp(block.maximum[row] - maximum);
            kept *= factor;
            rescale(block.y + row * block.head_size, block.head_size, factor);
        }
    }
    const VF shift = set(maximum);
    const VF by = set(scale);
    const float added = sum_over(visible, [&](int64_t i, auto lanes) {
        const VF p = exp(hn::MulSub(load(scores + i, lanes), by, shift));
        store(p, probabilities + i, lanes);
        return keep(p, lanes);
    });
    std::fill(probabilities + visible, probabilities + block.keys, P(0.0F));
    block.maximum[row] = maximum;
    block.sum[row] = kept + added;
}

void softmax_kernel(const SoftmaxBlock& block, bool first) {
    with_type(block.operand, [&](auto type) {
        for (int64_t row = 0; row < block.rows; ++row) {
            softmax_row<decltype(type)>(block, row, first);
        }
    });
}

void finish_softmax_kernel(const SoftmaxBlock& block, void* destination, DType dtype,
                           int64_t stride, float* log_sum_exp) {
    with_type(dtype, [&](auto type) {
        using T = decltype(type);
        for (int64_t row = 0; row < block.rows; ++row) {
            const float* y = block.y + row * block.head_size;
            T* out = static_cast<T*>(destination) + row * stride;
            const VF by = set(1.0F / block.sum[row]);
            walk(block.head_size, [&](int64_t i, auto lanes) {
                store(hn::Mul(load(y + i, lanes), by), out + i, lanes);
            });
            log_sum_exp[row] = block.maximum[row] + std::log(block.sum[row]);
        }
    });
}

/// One key against all queries: they lie along the lanes.
template <typename P>
void score_gradient_row(const ScoreGradientBlock& block, int64_t row) {
    const int64_t offset = row * block.queries;
    const float* scores = block.scores + offset;
    const float* d_probabilities = block.d_probabilities + offset;
    P* probabilities = static_cast<P*>(block.probabilities) + offset;
    P* d_scores = static_cast<P*>(block.d_scores) + offset;
    const VF scale = set(block.scale);
    const VF slope = set(block.slope);
    const VF numbers = lane_numbers();
    const int64_t distance = block.key + row - block.query;  // key - first query
    const bool masked = distance > 0;
    // Whole vectors of queries that come before the key.
    const auto width = static_cast<int64_t>(hn::Lanes(DF()));
    const int64_t hidden = std::clamp<int64_t>(distance, 0, block.queries) / width * width;
    std::fill_n(probabilities, hidden, P(0.0F));
    std::fill_n(d_scores, hidden, P(0.0F));
    walk(block.queries - hidden, [&](int64_t step, auto lanes) {
        const int64_t i = hidden + step;
        const VF away = hn::Sub(set(static_cast<float>(distance - i)), numbers);
        const VF bias = hn::MulSub(slope, away, load(block.log_sum_exp + i, lanes));
        VF p = exp(hn::MulAdd(load(scores + i, lanes), scale, bias));
        if (masked) {
            p = hn::IfThenZeroElse(hn::Gt(away, hn::Zero(DF())), p);
        }
        const VF d = hn::Sub(load(d_probabilities + i, lanes), load(block.delta + i, lanes));
        store(p, probabilities + i, lanes);
        store(hn::Mul(hn::Mul(p, d), scale), d_scores + i, lanes);
    });
}

void score_gradient_kernel(const ScoreGradientBlock& block) {
    with_type(block.operand, [&](auto type) {
        for (int64_t row = 0; row < block.keys; ++row) {
            score_gradient_row<decltype(type)>(block, row);
        }
    });
}

void row_dots_kernel(const MatrixView& a, const MatrixView& b, int64_t rows, int64_t columns,
                     float* out) {
    with_type(a.dtype, [&](auto type) {
        using T = decltype(type);
        for (int64_t row = 0; row < rows; ++row) {
            const T* left = static_cast<const T*>(a.data) + row * a.stride;
            const T* right = static_cast<const T*>(b.data) + row * b.stride;
            out[row] = sum_over(columns, [&](int64_t i, auto lanes) {
                return hn::Mul(load(left + i, lanes), load(right + i, lanes));
            });
        }
    });
}

void store_sum_kernel(const float* source, int64_t parts, int64_t part_stride, void* destination,
                      DType dtype, int64_t stride, int64_t rows, int64_t columns) {
    with_type(dtype, [&](auto type) {
        using T = decltype(type);
        for (int64_t row = 0; row < rows; ++row) {
            const float* from = source + row * columns;
            T* to = static_cast<T*>(destination) + row * stride;
            walk(columns, [&](int64_t i, auto lanes) {
                VF sum = load(from + i, lanes);
                for (int64_t part = 1; part < parts; ++part) {
                    sum = hn::Add(sum, load(from + part * part_stride + i, lanes));
                }
                store(sum, to + i, lanes);
            });
        }
    });
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(softmax_kernel);
HWY_EXPORT(finish_softmax_kernel);
HWY_EXPORT(score_gradient_kernel);
HWY_EXPORT(row_dots_kernel);
HWY_EXPORT(store_sum_kernel);

AttentionGeometry::AttentionGeometry(const AttentionHeads& of, const Tensor& qkv,
                                     const MatmulSupport& support)
    : batch(qkv.shape()[0]),
      time(qkv.shape()[1]),
      heads(of.heads),
      kv_heads(of.kv_heads),
      head_size(of.head_size),
      group(of.heads / of.kv_heads),
      qkv_stride(of.qkv_columns()),
      dtype(qkv.dtype()),
      operand(support.operand_dtype(qkv.dtype())),
      by_keys(support.layout(operand, kBlock)),
      by_head(support.layout(operand, head_size)),
      grouped_keys(support.panels && by_head.width >= head_size ? kMostGroupedKeys : kBlock),
      scale(1.0F / std::sqrt(static_cast<float>(of.head_size))) {}

void softmax_block(const SoftmaxBlock& block, bool first) {
    HWY_DYNAMIC_DISPATCH(softmax_kernel)(block, first);
}

void finish_softmax(const SoftmaxBlock& block, void* destination, DType dtype, int64_t stride,
                    float* log_sum_exp) {
    HWY_DYNAMIC_DISPATCH(finish_softmax_kernel)(block, destination, dtype, stride, log_sum_exp);
}

void score_gradient_block(const ScoreGradientBlock& block) {
    HWY_DYNAMIC_DISPATCH(score_gradient_kernel)(block);
}

void row_dots(const MatrixView& a, const MatrixView& b, int64_t rows, int64_t columns, float* out) {
    HWY_DYNAMIC_DISPATCH(row_dots_kernel)(a, b, rows, columns, out);
}

void store_sum(const float* source, int64_t parts, int64_t part_stride, void* destination,
               DType dtype, int64_t stride, int64_t rows, int64_t columns) {
    HWY_DYNAMIC_DISPATCH(store_sum_kernel)
    (source, parts, part_stride, destination, dtype, stride, rows, columns);
}

}  // namespace lathe::cpu
#endif
