// Conversions between float and the small formats, bit exact.
#pragma once
#include <cmath>

#include "kernels/ptxemu/interpreter/types.h"

namespace ptxemu {

enum class Rnd : u8 { RN, RZ, RM, RP, RNA };

// A format of E exponent bits and M mantissa bits. Inf: has infinities (else all-ones
// mantissa+exponent is NaN, e4m3).
template <int E, int M, bool Inf>
struct Small {
    static constexpr int bias = (1 << (E - 1)) - 1;
    static constexpr u32 exp_mask = (1u << E) - 1;
    static constexpr u32 nan =
        Inf ? (E == 5 && M == 2 ? 0x7F : (1u << (E + M)) - 1) : (1u << (E + M)) - 1;
    static constexpr u32 inf = exp_mask << M;
    static constexpr u32 max_finite = Inf ? inf - 1 : (1u << (E + M)) - 2;
    static constexpr u32 sign_bit = 1u << (E + M);

    static u32 from(double x, Rnd r, bool sat) {
        u64 b = std::bit_cast<u64>(x);
        u32 s = b >> 63 ? sign_bit : 0;
        if (std::isnan(x)) return nan;
        double a = std::fabs(x);
        if (std::isinf(a)) return s | (sat ? max_finite : Inf ? inf : nan);
        if (a == 0) return s;
        int e;
        std::frexp(a, &e);
        --e;                              // a = 1.xxx * 2^e
        if (e < 1 - bias) e = 1 - bias;   // subnormal spacing
        double q = std::ldexp(a, M - e);  // exact
        double fl = std::floor(q), rem = q - fl;
        u64 n = (u64)fl;
        bool up = false;
        switch (r) {
            case Rnd::RN:
                up = rem > 0.5 || (rem == 0.5 && (n & 1));
                break;
            case Rnd::RNA:
                up = rem >= 0.5;
                break;
            case Rnd::RZ:
                break;
            case Rnd::RM:
                up = s && rem > 0;
                break;
            case Rnd::RP:
                up = !s && rem > 0;
                break;
        }
        n += up;
        // n in [0, 2^(M+1)]; value n * 2^(e-M)
        u64 bits;
        if (n < (1u << M))
            bits = n;  // subnormal
        else
            bits = ((u64)(e + bias) << M) + (n - (1u << M));
        if (bits > max_finite) {
            if (sat)
                bits = max_finite;
            else if (!Inf)
                bits = nan;
            else
                bits = (r == Rnd::RZ || (r == Rnd::RM && !s) || (r == Rnd::RP && s)) ? max_finite
                                                                                     : inf;
        }
        return s | (u32)bits;
    }
    static float to(u32 v) {
        bool s = v & sign_bit;
        u32 e = (v >> M) & exp_mask, m = v & ((1u << M) - 1);
        float r;
        if (Inf && e == exp_mask)
            r = m ? NAN : INFINITY;
        else if (!Inf && (v & (sign_bit - 1)) == nan)
            r = NAN;
        else if (e == 0)
            r = std::ldexp((float)m, 1 - bias - M);
        else
            r = std::ldexp((float)(m + (1u << M)), (int)e - bias - M);
        return s ? -r : r;
    }
};
using E4M3f = Small<4, 3, false>;
using E5M2f = Small<5, 2, true>;
using Half = Small<5, 10, true>;

struct f16 {
    u16 v;
};
struct bf16 {
    u16 v;
};
struct h2 {
    u16 lo, hi;
};

inline float to_f(f16 h) { return (float)std::bit_cast<_Float16>(h.v); }
inline f16 to_h(float f) {
    if (f != f) return {0x7fff};
    return {std::bit_cast<u16>((_Float16)f)};
}
inline f16 to_h(double f) { return {(u16)Half::from(f, Rnd::RN, false)}; }
inline float to_f(bf16 h) { return std::bit_cast<float>((u32)h.v << 16); }
inline bf16 to_b(float f) {
    u32 u = std::bit_cast<u32>(f);
    u32 r = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    return {(u16)((u & 0x7fffffff) > 0x7f800000 ? 0x7fff : r)};
}
inline bf16 to_brz(float f) {
    u32 u = std::bit_cast<u32>(f);
    return {(u16)((u & 0x7fffffff) > 0x7f800000 ? 0x7fff : u >> 16)};
}
// correctly rounded bf16 from a double
inline bf16 to_b(double x) { return {(u16)Small<8, 7, true>::from(x, Rnd::RN, false)}; }

inline u32 tf32rna(float f) {
    u32 u = std::bit_cast<u32>(f);
    if ((u & 0x7fffffff) >= 0x7f800000) return u & 0x7fffffff & 0x7fffff ? 0x7fffffff : u;
    return (u + 0x1000) & ~0x1fffu;
}
inline u32 tf32rn(float f) {
    u32 u = std::bit_cast<u32>(f);
    if ((u & 0x7fffffff) >= 0x7f800000) return u & 0x7fffffff & 0x7fffff ? 0x7fffffff : u;
    return (u + 0xfff + ((u >> 13) & 1)) & ~0x1fffu;
}
inline float canon(float f) { return f != f ? std::bit_cast<float>(0x7fffffffu) : f; }
inline float ftz(float f) { return std::fabs(f) < 1.17549435e-38f ? std::copysign(0.0f, f) : f; }

}  // namespace ptxemu
