// Cast.
#include <bit>
#include <cmath>

#include "kernels/cpu/cpu_backend_impl.h"
#include "kernels/cpu/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cast.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

/// Between f32 and bf16.
void cast_kernel(const Cast& op, int64_t begin, int64_t end) {
    with_type(op.x.dtype(), [&](auto from) {
        with_type(op.y.dtype(), [&](auto to) {
            const auto* x = data_of<decltype(from)>(op.x) + begin;
            auto* y = data_of<decltype(to)>(op.y) + begin;
            walk(end - begin,
                 [&](int64_t i, auto lanes) { store(load(x + i, lanes), y + i, lanes); });
        });
    });
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(cast_kernel);

namespace {

/// bf16 nearest to a double, ties to even: through an f32 rounded to odd, so that it is rounded
/// once.
bf16 bf16_of(double value) {
    auto nearest = static_cast<float>(value);
    if (static_cast<double>(nearest) != value && std::isfinite(nearest)) {
        auto bits = std::bit_cast<uint32_t>(nearest);
        if (std::abs(static_cast<double>(nearest)) > std::abs(value)) {
            --bits;
        }
        nearest = std::bit_cast<float>(bits | 1U);
    }
    return bf16(nearest);
}

/// Casts from or to f64: rare, so plain.
void cast_doubles(const Cast& op, int64_t begin, int64_t end) {
    const auto source = [&](int64_t i) -> double {
        switch (op.x.dtype()) {
            case DType::f32:
                return static_cast<const float*>(op.x.data())[i];
            case DType::bf16:
                return static_cast<float>(static_cast<const bf16*>(op.x.data())[i]);
            default:
                return static_cast<const double*>(op.x.data())[i];
        }
    };
    for (int64_t i = begin; i < end; ++i) {
        switch (op.y.dtype()) {
            case DType::f32:
                static_cast<float*>(op.y.data())[i] = static_cast<float>(source(i));
                break;
            case DType::bf16:
                static_cast<bf16*>(op.y.data())[i] = bf16_of(source(i));
                break;
            default:
                static_cast<double*>(op.y.data())[i] = source(i);
                break;
        }
    }
}

}  // namespace

int64_t CpuBackend::workspace_bytes(const Cast&) const { return 0; }

void CpuBackend::execute(const Cast& op, Stream) {
    constexpr int64_t kGrainElements = 16384;
    const bool has_double = op.x.dtype() == DType::f64 || op.y.dtype() == DType::f64;
    parallel_ranges(team(), op.x.size(), kGrainElements, [&](int64_t begin, int64_t end) {
        if (has_double) {
            cast_doubles(op, begin, end);
        } else {
            HWY_DYNAMIC_DISPATCH(cast_kernel)(op, begin, end);
        }
    });
}

}  // namespace lathe::cpu
#endif
