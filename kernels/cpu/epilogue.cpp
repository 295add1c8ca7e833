#include "kernels/cpu/epilogue.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/epilogue.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

void accumulate_tile(const Matmul& op, const float* sums, int64_t sums_stride, int64_t row,
                     int64_t rows, int64_t column, int64_t columns) {
    const int64_t n = op.d.columns();
    for (int64_t i = 0; i < rows; ++i) {
        float* d = data_of<float>(op.d) + (row + i) * n + column;
        const float* from = sums + i * sums_stride;
        walk(columns, [&](int64_t j, auto lanes) {
            store(hn::Add(load(d + j, lanes), load(from + j, lanes)), d + j, lanes);
        });
    }
}

/// T: compute type; D: type of d; Value: what is applied to the rounded pre-activation.
template <typename T, typename D, typename Value>
void finish_tile(const Matmul& op, const float* sums, int64_t sums_stride, int64_t row,
                 int64_t rows, int64_t column, int64_t columns, const Value& value) {
    const int64_t n = op.d.columns();
    const T* bias = op.bias ? data_of<T>(op.bias) + column : nullptr;
    for (int64_t i = 0; i < rows; ++i) {
        const int64_t offset = (row + i) * n + column;
        const float* from = sums + i * sums_stride;
        D* d = data_of<D>(op.d) + offset;
        T* pre = op.pre_activation ? data_of<T>(op.pre_activation) + offset : nullptr;
        const T* residual = op.residual ? data_of<T>(op.residual) + offset : nullptr;
        walk(columns, [&](int64_t j, auto lanes) {
            VF v = load(from + j, lanes);
            if (bias != nullptr) {
                v = hn::Add(v, load(bias + j, lanes));
            }
            if (pre != nullptr) {
                store(v, pre + j, lanes);
            }
            v = value(v);
            if (residual != nullptr) {
                v = hn::Add(v, load(residual + j, lanes));
            }
            store(v, d + j, lanes);
        });
    }
}

template <typename T, typename D>
void finish_tile_as(const Matmul& op, const float* sums, int64_t sums_stride, int64_t row,
                    int64_t rows, int64_t column, int64_t columns) {
    const auto finish = [&](const auto& value) {
        finish_tile<T, D>(op, sums, sums_stride, row, rows, column, columns, value);
    };
    switch (op.activation) {
        case Activation::none:
            finish([](VF v) { return v; });
            break;
        case Activation::gelu_exact:
            finish([](VF v) { return GeluExact::value(rounded_to<T>(v)); });
            break;
        case Activation::gelu_tanh:
            finish([](VF v) { return GeluTanh::value(rounded_to<T>(v)); });
            break;
    }
}

void epilogue_kernel(const Matmul& op, const float* sums, int64_t sums_stride, int64_t row,
                     int64_t rows, int64_t column, int64_t columns) {
    if (op.accumulate) {
        accumulate_tile(op, sums, sums_stride, row, rows, column, columns);
        return;
    }
    const bool bf16_in = op.a.dtype() == DType::bf16;
    const bool bf16_out = op.d.dtype() == DType::bf16;
    if (bf16_in && bf16_out) {
        finish_tile_as<bf16, bf16>(op, sums, sums_stride, row, rows, column, columns);
    } else if (bf16_in) {
        finish_tile_as<bf16, float>(op, sums, sums_stride, row, rows, column, columns);
    } else {
        finish_tile_as<float, float>(op, sums, sums_stride, row, rows, column, columns);
    }
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(epilogue_kernel);

void apply_epilogue(const Matmul& op, const float* sums, int64_t sums_stride, int64_t row,
                    int64_t rows, int64_t column, int64_t columns) {
    HWY_DYNAMIC_DISPATCH(epilogue_kernel)
    (op, sums, sums_stride, row, rows, column, columns);
}

}  // namespace lathe::cpu
#endif
