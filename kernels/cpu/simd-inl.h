// Loads, stores and walks over f32 and bf16 rows, for every instruction set (Highway's foreach
// scheme: this header is compiled once per target).
#if defined(LATHE_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LATHE_CPU_SIMD_INL_H_
#undef LATHE_CPU_SIMD_INL_H_
#else
#define LATHE_CPU_SIMD_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstring>

#include "kernels/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;
using DU = hn::RebindToUnsigned<DF>;
using DI = hn::RebindToSigned<DF>;
inline constexpr int64_t kMaxLanes = HWY_LANES(float);

/// A whole vector, or its first n lanes.
struct Full {};
struct Part {
    int64_t n;
};

HWY_INLINE VF load(const float* p, Full) { return hn::LoadU(DF(), p); }
HWY_INLINE VF widened(hn::Vec<hn::Rebind<uint16_t, DF>> bits) {
    return hn::BitCast(DF(), hn::ShiftLeft<16>(hn::PromoteTo(DU(), bits)));
}
HWY_INLINE VF load(const bf16* p, Full) {
    const hn::Rebind<uint16_t, DF> du16;
    return widened(hn::LoadU(du16, reinterpret_cast<const uint16_t*>(p)));
}
/// The lanes past n are 0.
template <typename T>
HWY_INLINE VF load(const T* p, Part part) {
#if HWY_TARGET <= HWY_AVX3  // whose masked loads and stores leave what lies past n alone
    const auto n = static_cast<size_t>(part.n);
    if constexpr (sizeof(T) == 4) {
        return hn::MaskedLoad(hn::FirstN(DF(), n), DF(), p);
    } else {
        const hn::Rebind<uint16_t, DF> du16;
        const auto* bits = reinterpret_cast<const uint16_t*>(p);
        return widened(hn::MaskedLoad(hn::FirstN(du16, n), du16, bits));
    }
#else
    HWY_ALIGN T lanes[kMaxLanes] = {};
    std::memcpy(static_cast<void*>(lanes), p, static_cast<size_t>(part.n) * sizeof(T));
    return load(lanes, Full());
#endif
}

/// The bits of bf16 (round to nearest even, any NaN a quiet one) in the low half of each lane.
HWY_INLINE hn::Vec<DU> bf16_bits(VF v) {
    const DU du;
    const auto bits = hn::BitCast(du, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fffU))));
    return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), hn::Set(du, 0x7fc0U), rounded);
}

HWY_INLINE void store(VF v, float* p, Full) { hn::StoreU(v, DF(), p); }
HWY_INLINE hn::Vec<hn::Rebind<uint16_t, DF>> narrowed(VF v) {
    return hn::DemoteTo(hn::Rebind<uint16_t, DF>(), hn::BitCast(DI(), bf16_bits(v)));
}
HWY_INLINE void store(VF v, bf16* p, Full) {
    const hn::Rebind<uint16_t, DF> du16;
    hn::StoreU(narrowed(v), du16, reinterpret_cast<uint16_t*>(p));
}
template <typename T>
HWY_INLINE void store(VF v, T* p, Part part) {
#if HWY_TARGET <= HWY_AVX3
    const auto n = static_cast<size_t>(part.n);
    if constexpr (sizeof(T) == 4) {
        hn::BlendedStore(v, hn::FirstN(DF(), n), DF(), p);
    } else {
        const hn::Rebind<uint16_t, DF> du16;
        hn::BlendedStore(narrowed(v), hn::FirstN(du16, n), du16, reinterpret_cast<uint16_t*>(p));
    }
#else
    HWY_ALIGN T lanes[kMaxLanes];
    store(v, lanes, Full());
    std::memcpy(static_cast<void*>(p), lanes, static_cast<size_t>(part.n) * sizeof(T));
#endif
}

/// v as it would be read back after store<T>.
template <typename T>
HWY_INLINE VF rounded_to(VF v) {
    if constexpr (sizeof(T) == 4) {
        return v;
    } else {
        return hn::BitCast(DF(), hn::ShiftLeft<16>(bf16_bits(v)));
    }
}

/// Keeps the lanes that exist, zeroes the others.
HWY_INLINE VF keep(VF v, Full) { return v; }
HWY_INLINE VF keep(VF v, Part part) {
    return hn::IfThenElseZero(hn::FirstN(DF(), static_cast<size_t>(part.n)), v);
}

/// Calls body(i, Full) for each whole vector of [0, n), then body(i, Part) for what is left.
template <typename Body>
HWY_INLINE void walk(int64_t n, const Body& body) {
    const auto lanes = static_cast<int64_t>(hn::Lanes(DF()));
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        body(i, Full());
    }
    if (i < n) {
        body(i, Part{n - i});
    }
}

HWY_INLINE float sum_of_lanes(VF v) { return hn::GetLane(hn::SumOfLanes(DF(), v)); }
HWY_INLINE float max_of_lanes(VF v) { return hn::GetLane(hn::MaxOfLanes(DF(), v)); }

/// Sum over i < n of term(i, Full or Part); `term` must zero the lanes that do not exist. Four
/// running vectors hide the latency of addition; the order depends on n only.
template <typename Term>
HWY_INLINE float sum_over(int64_t n, const Term& term) {
    const auto lanes = static_cast<int64_t>(hn::Lanes(DF()));
    VF s0 = hn::Zero(DF());
    VF s1 = s0;
    VF s2 = s0;
    VF s3 = s0;
    int64_t i = 0;
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
        s0 = hn::Add(s0, term(i, Full()));
        s1 = hn::Add(s1, term(i + lanes, Full()));
        s2 = hn::Add(s2, term(i + 2 * lanes, Full()));
        s3 = hn::Add(s3, term(i + 3 * lanes, Full()));
    }
    for (; i + lanes <= n; i += lanes) {
        s0 = hn::Add(s0, term(i, Full()));
    }
    if (i < n) {
        s1 = hn::Add(s1, term(i, Part{n - i}));
    }
    return sum_of_lanes(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

/// out[r * apart] = the dot product of x and row r of `rows`, each n long, `stride` elements from
/// one to the next. They share the loads of x, and their sums hide the latency of addition; each
/// one's order depends on n only. Of each row what lies kAheadBytes further on is prefetched: where
/// rows are streamed from memory, what a processor does by itself ends with each page.
template <int kRows, int kAheadBytes = 0, typename T, typename X>
HWY_INLINE void dot_rows(const T* rows, int64_t stride, const X* x, int64_t n, float* out,
                         int64_t apart) {
    VF sums[kRows];
    for (VF& sum : sums) {
        sum = hn::Zero(DF());
    }
    walk(n, [&](int64_t i, auto lanes) {
        const VF v = load(x + i, lanes);
        for (int r = 0; r < kRows; ++r) {
            const T* row = rows + r * stride + i;
            if constexpr (kAheadBytes != 0) {
                hwy::Prefetch(row + kAheadBytes / static_cast<int>(sizeof(T)));
            }
            sums[r] = hn::MulAdd(load(row, lanes), v, sums[r]);
        }
    });
    for (int r = 0; r < kRows; ++r) {
        out[r * apart] = sum_of_lanes(sums[r]);
    }
}

/// Calls body(T()) with the host type of a compute dtype.
template <typename Body>
HWY_INLINE void with_type(DType dtype, const Body& body) {
    if (dtype == DType::bf16) {
        body(bf16());
    } else {
        body(float());
    }
}

template <typename T>
HWY_INLINE T* data_of(const Tensor& tensor) {
    return static_cast<T*>(tensor.data());
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
