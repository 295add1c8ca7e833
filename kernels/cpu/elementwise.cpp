// Gelu, GeluBackward, Swiglu, SwigluBackward, Rotary: no value depends on another's neighbour, so
// threads take any ranges.
#include <algorithm>

#include "kernels/cpu/cpu_backend_impl.h"
#include "kernels/cpu/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

/// Calls body(GeluExact()) or body(GeluTanh()).
template <typename Body>
HWY_INLINE void with_activation(Activation activation, const Body& body) {
    if (activation == Activation::gelu_exact) {
        body(GeluExact());
    } else {
        body(GeluTanh());
    }
}

void gelu_kernel(const Gelu& op, int64_t begin, int64_t end) {
    with_type(op.x.dtype(), [&](auto type) {
        using T = decltype(type);
        const T* x = data_of<T>(op.x) + begin;
        T* y = data_of<T>(op.y) + begin;
        with_activation(op.activation, [&](auto gelu) {
            walk(end - begin, [&](int64_t i, auto lanes) {
                store(decltype(gelu)::value(load(x + i, lanes)), y + i, lanes);
            });
        });
    });
}

void gelu_backward_kernel(const GeluBackward& op, int64_t begin, int64_t end) {
    with_type(op.x.dtype(), [&](auto type) {
        using T = decltype(type);
        const T* x = data_of<T>(op.x) + begin;
        const T* d_y = data_of<T>(op.d_y) + begin;
        T* d_x = data_of<T>(op.d_x) + begin;
        with_activation(op.activation, [&](auto gelu) {
            walk(end - begin, [&](int64_t i, auto lanes) {
                const VF slope = decltype(gelu)::slope(load(x + i, lanes));
                store(hn::Mul(load(d_y + i, lanes), slope), d_x + i, lanes);
            });
        });
    });
}

void swiglu_kernel(const Swiglu& op, int64_t begin, int64_t end) {
    with_type(op.y.dtype(), [&](auto type) {
        using T = decltype(type);
        const int64_t f = op.y.columns();
        for (int64_t n = begin; n < end; ++n) {
            const T* gate = data_of<T>(op.gate_up) + n * 2 * f;
            const T* up = gate + f;
            T* y = data_of<T>(op.y) + n * f;
            walk(f, [&](int64_t i, auto lanes) {
                const VF g = load(gate + i, lanes);
                const VF silu = hn::Div(g, hn::Add(set(1.0F), exp(hn::Neg(g))));
                store(hn::Mul(silu, load(up + i, lanes)), y + i, lanes);
            });
        }
    });
}

void swiglu_backward_kernel(const SwigluBackward& op, int64_t begin, int64_t end) {
    with_type(op.d_y.dtype(), [&](auto type) {
        using T = decltype(type);
        const int64_t f = op.d_y.columns();
        for (int64_t n = begin; n < end; ++n) {
            const T* gate = data_of<T>(op.gate_up) + n * 2 * f;
            const T* d_y = data_of<T>(op.d_y) + n * f;
            T* d_gate = data_of<T>(op.d_gate_up) + n * 2 * f;
            walk(f, [&](int64_t i, auto lanes) {
                const VF g = load(gate + i, lanes);
                const VF up = load(gate + f + i, lanes);
                const VF d = load(d_y + i, lanes);
                const VF s = logistic(g);
                const VF silu = hn::Mul(g, s);
                // silu' = s (1 + g (1 - s))
                const VF slope = hn::Mul(s, hn::MulAdd(g, hn::Sub(set(1.0F), s), set(1.0F)));
                store(hn::Mul(hn::Mul(d, up), slope), d_gate + i, lanes);
                store(hn::Mul(d, silu), d_gate + f + i, lanes);
            });
        }
    });
}

/// Rows are (b, t).
void rotary_kernel(const Rotary& op, int64_t begin, int64_t end) {
    with_type(op.qkv.dtype(), [&](auto type) {
        using T = decltype(type);
        const int64_t d = op.heads.head_size;
        const int64_t half = d / 2;
        const int64_t time = op.qkv.shape()[1];
        const VF sign = set(op.inverse ? -1.0F : 1.0F);
        for (int64_t n = begin; n < end; ++n) {
            const float* cosines = data_of<float>(op.table) + (op.first_position + n % time) * d;
            const float* sines = cosines + half;
            T* row = data_of<T>(op.qkv) + n * op.heads.qkv_columns();
            for (int64_t head = 0; head < op.heads.heads + op.heads.kv_heads; ++head) {
                T* low = row + head * d;
                T* high = low + half;
                walk(half, [&](int64_t i, auto lanes) {
                    const VF u = load(low + i, lanes);
                    const VF v = load(high + i, lanes);
                    const VF c = load(cosines + i, lanes);
                    const VF s = hn::Mul(sign, load(sines + i, lanes));
                    store(hn::Sub(hn::Mul(u, c), hn::Mul(v, s)), low + i, lanes);
                    store(hn::Add(hn::Mul(v, c), hn::Mul(u, s)), high + i, lanes);
                });
            }
        }
    });
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(gelu_kernel);
HWY_EXPORT(gelu_backward_kernel);
HWY_EXPORT(swiglu_kernel);
HWY_EXPORT(swiglu_backward_kernel);
HWY_EXPORT(rotary_kernel);

namespace {
constexpr int64_t kGrainElements = 4096;
/// Rows that make a piece worth a thread.
int64_t grain_rows(int64_t columns) { return std::max<int64_t>(1, kGrainElements / (columns + 1)); }
}  // namespace

int64_t CpuBackend::workspace_bytes(const Gelu&) const { return 0; }
int64_t CpuBackend::workspace_bytes(const GeluBackward&) const { return 0; }
int64_t CpuBackend::workspace_bytes(const Swiglu&) const { return 0; }
int64_t CpuBackend::workspace_bytes(const SwigluBackward&) const { return 0; }
int64_t CpuBackend::workspace_bytes(const Rotary&) const { return 0; }

void CpuBackend::execute(const Gelu& op, Stream) {
    parallel_ranges(team(), op.x.size(), kGrainElements, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(gelu_kernel)(op, begin, end);
    });
}

void CpuBackend::execute(const GeluBackward& op, Stream) {
    parallel_ranges(team(), op.x.size(), kGrainElements, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(gelu_backward_kernel)(op, begin, end);
    });
}

void CpuBackend::execute(const Swiglu& op, Stream) {
    parallel_ranges(team(), op.y.rows(), grain_rows(op.y.columns()),
                    [&](int64_t begin, int64_t end) {
                        HWY_DYNAMIC_DISPATCH(swiglu_kernel)(op, begin, end);
                    });
}

void CpuBackend::execute(const SwigluBackward& op, Stream) {
    parallel_ranges(team(), op.d_y.rows(), grain_rows(op.d_y.columns()),
                    [&](int64_t begin, int64_t end) {
                        HWY_DYNAMIC_DISPATCH(swiglu_backward_kernel)(op, begin, end);
                    });
}

void CpuBackend::execute(const Rotary& op, Stream) {
    parallel_ranges(team(), op.qkv.rows(), grain_rows(op.qkv.columns()),
                    [&](int64_t begin, int64_t end) {
                        HWY_DYNAMIC_DISPATCH(rotary_kernel)(op, begin, end);
                    });
}

}  // namespace lathe::cpu
#endif
