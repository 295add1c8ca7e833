// Building handlers from a per-lane function: handler([](float a, float b) { return a + b; }).
#pragma once
#include <immintrin.h>

#include "kernels/ptxemu/interpreter/core.h"

namespace ptxemu {

template <class T>
struct SlotOf {
    using type =
        std::conditional_t<(sizeof(T) > 8), u128, std::conditional_t<(sizeof(T) > 4), u64, u32>>;
};
template <class T>
using Slot = typename SlotOf<T>::type;

template <class T>
inline T from_slot(Slot<T> s) {
    if constexpr (sizeof(T) == sizeof(Slot<T>))
        return std::bit_cast<T>(s);
    else if constexpr (sizeof(T) == 2)
        return std::bit_cast<T>((u16)s);
    else
        return std::bit_cast<T>((u8)s);
}
template <class T>
inline Slot<T> to_slot(T v) {
    if constexpr (sizeof(T) == sizeof(Slot<T>))
        return std::bit_cast<Slot<T>>(v);
    else if constexpr (sizeof(T) == 2)
        return std::bit_cast<u16>(v);
    else
        return std::bit_cast<u8>(v);
}

template <class F, class R, class... A>
struct Elementwise {
    template <size_t... K>
    static inline void go(Warp& w, const Ins& i, u32 m, std::index_sequence<K...>) {
        F f;
        auto* __restrict__ d0 = w.reg<Slot<R>>(i.o[0]);
        auto* d = d0;
        if (m == ~0u) {
            alignas(64) Slot<R> t[32];
            for (int l = 0; l < 32; ++l)
                t[l] = to_slot<R>(f(from_slot<A>(w.reg<Slot<A>>(i.o[K + 1])[l])...));
            memcpy(d, t, sizeof t);
        } else {
            while (m) {
                int l = __builtin_ctz(m);
                m &= m - 1;
                d[l] = to_slot<R>(f(from_slot<A>(w.reg<Slot<A>>(i.o[K + 1])[l])...));
            }
        }
    }
    static Ctl run(Warp& w, const Ins& i, u32 m) {
        go(w, i, m, std::index_sequence_for<A...>{});
        return Next;
    }
    // the same under another rounding mode (MXCSR bits 13-14: 1 down, 2 up, 3 zero)
    template <int RM>
    static Ctl run_round(Warp& w, const Ins& i, u32 m) {
        unsigned old = _mm_getcsr();
        _mm_setcsr((old & ~0x6000u) | (RM << 13));
        asm volatile("" ::: "memory");
        go(w, i, m, std::index_sequence_for<A...>{});
        asm volatile("" ::: "memory");
        _mm_setcsr(old);
        return Next;
    }
};

template <class F, class T>
struct Sig;
template <class F, class C, class R, class... A>
struct Sig<F, R (C::*)(A...) const> {
    using E = Elementwise<F, R, A...>;
};
template <class F>
using EwOf = typename Sig<F, decltype(&F::operator())>::E;

template <class F>
Fn handler(F) {
    return &EwOf<F>::run;
}
template <class F>
Fn handler_round(F, int rm) {
    using E = EwOf<F>;
    switch (rm) {
        case 1:
            return &E::template run_round<1>;
        case 2:
            return &E::template run_round<2>;
        case 3:
            return &E::template run_round<3>;
        default:
            return &E::run;
    }
}

}  // namespace ptxemu
