// Norm: one row at a time, read from memory once. BiasBackward shares the sums over rows.
#include <algorithm>

#include "kernels/cpu/cpu_backend_impl.h"
#include "kernels/cpu/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cpp"
#include <hwy/foreach_target.h>

#include <cmath>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

template <typename T>
void norm_rows(const Norm& op, int64_t begin, int64_t end) {
    const int64_t c = op.x.columns();
    const bool layernorm = op.kind == NormKind::layernorm;
    const T* weight = data_of<T>(op.weight);
    const T* bias = layernorm ? data_of<T>(op.bias) : nullptr;
    const float inverse_c = 1.0F / static_cast<float>(c);
    for (int64_t n = begin; n < end; ++n) {
        const T* s = data_of<T>(op.x) + n * c;
        if (op.residual) {
            const T* residual = data_of<T>(op.residual) + n * c;
            T* sum = data_of<T>(op.sum) + n * c;
            walk(c, [&](int64_t i, auto lanes) {
                store(hn::Add(load(s + i, lanes), load(residual + i, lanes)), sum + i, lanes);
            });
            s = sum;
        }
        float mean = 0.0F;
        if (layernorm) {
            mean =
                sum_over(c, [&](int64_t i, auto lanes) { return load(s + i, lanes); }) * inverse_c;
            data_of<float>(op.mean)[n] = mean;
        }
        const VF center = hn::Set(DF(), mean);
        const float squares = sum_over(c, [&](int64_t i, auto lanes) {
            const VF v = keep(hn::Sub(load(s + i, lanes), center), lanes);
            return hn::Mul(v, v);
        });
        const float rstd = 1.0F / std::sqrt(squares * inverse_c + op.epsilon);
        data_of<float>(op.rstd)[n] = rstd;
        const VF scale = hn::Set(DF(), rstd);
        T* y = data_of<T>(op.y) + n * c;
        walk(c, [&](int64_t i, auto lanes) {
            const VF v = hn::Mul(hn::Sub(load(s + i, lanes), center), scale);
            const VF w = load(weight + i, lanes);
            store(bias == nullptr ? hn::Mul(v, w) : hn::MulAdd(v, w, load(bias + i, lanes)), y + i,
                  lanes);
        });
    }
}

void norm_kernel(const Norm& op, int64_t begin, int64_t end) {
    with_type(op.x.dtype(), [&](auto type) { norm_rows<decltype(type)>(op, begin, end); });
}

/// One row of the gradient; adds its share to d_weight and d_bias [C].
template <typename T>
void norm_backward_row(const NormBackward& op, int64_t n, float* d_weight, float* d_bias) {
    const int64_t c = op.x.columns();
    const bool layernorm = op.kind == NormKind::layernorm;
    const T* d_y = data_of<T>(op.d_y) + n * c;
    const T* x = data_of<T>(op.x) + n * c;
    const T* weight = data_of<T>(op.weight);
    const T* d_residual = op.d_residual ? data_of<T>(op.d_residual) + n * c : nullptr;
    T* d_x = data_of<T>(op.d_x) + n * c;
    const VF center = hn::Set(DF(), layernorm ? data_of<float>(op.mean)[n] : 0.0F);
    const VF scale = hn::Set(DF(), data_of<float>(op.rstd)[n]);
    const auto normalized = [&](int64_t i, auto lanes) {
        return hn::Mul(hn::Sub(load(x + i, lanes), center), scale);
    };
    const float inverse_c = 1.0F / static_cast<float>(c);
    float mean_g = 0.0F;
    if (layernorm) {
        mean_g = inverse_c * sum_over(c, [&](int64_t i, auto lanes) {
                     return hn::Mul(load(d_y + i, lanes), load(weight + i, lanes));
                 });
    }
    const float mean_gx =
        inverse_c * sum_over(c, [&](int64_t i, auto lanes) {
            const VF d = load(d_y + i, lanes);
            const VF v = normalized(i, lanes);
            store(hn::MulAdd(d, v, load(d_weight + i, lanes)), d_weight + i, lanes);
            if (layernorm) {
                store(hn::Add(d, load(d_bias + i, lanes)), d_bias + i, lanes);
            }
            return hn::Mul(hn::Mul(d, load(weight + i, lanes)), v);
        });
    const VF g_mean = hn::Set(DF(), mean_g);
    const VF gx_mean = hn::Set(DF(), mean_gx);
    walk(c, [&](int64_t i, auto lanes) {
        const VF g = hn::Mul(load(d_y + i, lanes), load(weight + i, lanes));
        const VF rest = hn::NegMulAdd(normalized(i, lanes), gx_mean, hn::Sub(g, g_mean));
        VF d = hn::Mul(rest, scale);
        if (d_residual != nullptr) {
            d = hn::Add(d, load(d_residual + i, lanes));
        }
        store(d, d_x + i, lanes);
    });
}

/// Rows of one chunk; partial is [2][C]: the chunk's share of d_weight, then of d_bias.
void norm_backward_kernel(const NormBackward& op, int64_t begin, int64_t end, float* partial) {
    const int64_t c = op.x.columns();
    std::memset(partial, 0, static_cast<size_t>(2 * c) * sizeof(float));
    with_type(op.x.dtype(), [&](auto type) {
        for (int64_t n = begin; n < end; ++n) {
            norm_backward_row<decltype(type)>(op, n, partial, partial + c);
        }
    });
}

/// partial[C] = sum of rows [begin, end) of d_y.
void bias_backward_kernel(const BiasBackward& op, int64_t begin, int64_t end, float* partial) {
    const int64_t c = op.d_y.columns();
    std::memset(partial, 0, static_cast<size_t>(c) * sizeof(float));
    with_type(op.d_y.dtype(), [&](auto type) {
        using T = decltype(type);
        for (int64_t n = begin; n < end; ++n) {
            const T* d_y = data_of<T>(op.d_y) + n * c;
            walk(c, [&](int64_t i, auto lanes) {
                store(hn::Add(load(partial + i, lanes), load(d_y + i, lanes)), partial + i, lanes);
            });
        }
    });
}

/// out[i] = sum over chunks of partial[chunk * stride + i], in order.
void add_partials_kernel(const float* partial, int64_t chunks, int64_t stride, float* out,
                         int64_t n) {
    walk(n, [&](int64_t i, auto lanes) {
        VF sum = hn::Zero(DF());
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            sum = hn::Add(sum, load(partial + chunk * stride + i, lanes));
        }
        store(sum, out + i, lanes);
    });
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(norm_kernel);
HWY_EXPORT(norm_backward_kernel);
HWY_EXPORT(bias_backward_kernel);
HWY_EXPORT(add_partials_kernel);

namespace {

/// Sums over rows run in chunks of this many rows, whatever the number of threads.
constexpr int64_t kChunkRows = 64;

int64_t num_chunks(const Tensor& rows) { return (rows.rows() + kChunkRows - 1) / kChunkRows; }

/// Calls body(begin row, end row, partial) for each chunk, `columns` floats of partial sums each.
template <typename Body>
void for_each_chunk(const Team& team, const Tensor& rows, int64_t columns, float* partials,
                    const Body& body) {
    parallel_ranges(team, num_chunks(rows), 1, [&](int64_t begin, int64_t end) {
        for (int64_t chunk = begin; chunk < end; ++chunk) {
            body(chunk * kChunkRows, std::min(rows.rows(), (chunk + 1) * kChunkRows),
                 partials + chunk * columns);
        }
    });
}

void add_partials(const Team& team, const float* partials, int64_t chunks, int64_t stride,
                  float* out, int64_t n) {
    constexpr int64_t kGrainColumns = 64;
    parallel_ranges(team, n, kGrainColumns, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(add_partials_kernel)
        (partials + begin, chunks, stride, out + begin, end - begin);
    });
}

}  // namespace

int64_t CpuBackend::workspace_bytes(const Norm&) const { return 0; }

int64_t CpuBackend::workspace_bytes(const NormBackward& op) const {
    return num_chunks(op.x) * 2 * op.x.columns() * static_cast<int64_t>(sizeof(float));
}

int64_t CpuBackend::workspace_bytes(const BiasBackward& op) const {
    return num_chunks(op.d_y) * op.d_y.columns() * static_cast<int64_t>(sizeof(float));
}

void CpuBackend::execute(const Norm& op, Stream) {
    constexpr int64_t kGrainRows = 8;
    parallel_ranges(team(), op.x.rows(), kGrainRows, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(norm_kernel)(op, begin, end);
    });
}

void CpuBackend::execute(const NormBackward& op, Stream) {
    const int64_t c = op.x.columns();
    auto* partials = static_cast<float*>(op.workspace.data());
    for_each_chunk(team(), op.x, 2 * c, partials, [&](int64_t begin, int64_t end, float* partial) {
        HWY_DYNAMIC_DISPATCH(norm_backward_kernel)(op, begin, end, partial);
    });
    add_partials(team(), partials, num_chunks(op.x), 2 * c, op.d_weight.as<float>(), c);
    if (op.d_bias) {
        add_partials(team(), partials + c, num_chunks(op.x), 2 * c, op.d_bias.as<float>(), c);
    }
}

void CpuBackend::execute(const BiasBackward& op, Stream) {
    const int64_t c = op.d_y.columns();
    auto* partials = static_cast<float*>(op.workspace.data());
    for_each_chunk(team(), op.d_y, c, partials, [&](int64_t begin, int64_t end, float* partial) {
        HWY_DYNAMIC_DISPATCH(bias_backward_kernel)(op, begin, end, partial);
    });
    add_partials(team(), partials, num_chunks(op.d_y), c, op.d_bias.as<float>(), c);
}

}  // namespace lathe::cpu
#endif
