// Vectorised exp, logistic function, normal distribution and the activations built on them.
//
// Errors against the exact value, measured over the whole range by tests/kernels: exp below 2 ulp;
// the coefficients are minimax fits made for this file (exp: degree 6 on |r| <= ln 2 / 2, relative
// error 4e-9 before rounding; erfc: degree 8 in t = 1 / (1 + 0.3 z), relative error 2e-8).
#if defined(LATHE_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LATHE_CPU_MATH_INL_H_
#undef LATHE_CPU_MATH_INL_H_
#else
#define LATHE_CPU_MATH_INL_H_
#endif

#include <limits>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

HWY_INLINE VF set(float value) { return hn::Set(DF(), value); }

/// exp(x) = 2^n exp(r), r = x - n ln 2 in two parts. Results below 2^-126 are 0, above 2^127.5
/// infinity.
HWY_INLINE VF exp(VF x) {
    const DU du;
    // Adding 1.5 * 2^23 leaves round(x / ln 2) in the low bits. Min keeps a NaN in its second
    // place.
    const VF magic = set(12582912.0F);
    const VF bounded = hn::Min(set(89.0F), x);
    const VF shifted = hn::MulAdd(bounded, set(1.44269504088896341F), magic);
    const VF n = hn::Sub(shifted, magic);
    VF r = hn::NegMulAdd(n, set(0.693145751953125F), bounded);
    r = hn::NegMulAdd(n, set(1.42860682030941723e-6F), r);
    VF p = set(0.00138145988F);
    p = hn::MulAdd(p, r, set(0.00836871658F));
    p = hn::MulAdd(p, r, set(0.041668389F));
    p = hn::MulAdd(p, r, set(0.166665211F));
    p = hn::MulAdd(p, r, set(0.49999994F));
    p = hn::MulAdd(p, r, set(1.0F));
    p = hn::MulAdd(p, r, set(1.0F));
    const auto exponent = hn::ShiftLeft<23>(hn::BitCast(du, shifted));
    const VF power = hn::BitCast(DF(), hn::Add(exponent, hn::Set(du, 127U << 23)));
    return hn::IfThenZeroElse(hn::Lt(x, set(-87.33654F)), hn::Mul(p, power));
}

/// 1 / (1 + exp(-x))
HWY_INLINE VF logistic(VF x) { return hn::Div(set(1.0F), hn::Add(set(1.0F), exp(hn::Neg(x)))); }

/// The normal distribution function of x, and exp(-x^2 / 2), from erfc(z) = t Q(t) exp(-z^2),
/// z = |x| / sqrt(2), t = 1 / (1 + 0.3 z).
HWY_INLINE VF normal_distribution(VF x, VF& bell) {
    const VF z = hn::Mul(hn::Abs(x), set(0.70710678118654752F));
    const VF t = hn::Div(set(1.0F), hn::MulAdd(z, set(0.3F), set(1.0F)));
    bell = exp(hn::Mul(hn::Mul(x, x), set(-0.5F)));
    VF q = set(-0.129523635F);
    q = hn::MulAdd(q, t, set(0.485566944F));
    q = hn::MulAdd(q, t, set(-0.512286127F));
    q = hn::MulAdd(q, t, set(0.547729671F));
    q = hn::MulAdd(q, t, set(-0.0946577713F));
    q = hn::MulAdd(q, t, set(0.214929253F));
    q = hn::MulAdd(q, t, set(0.148338303F));
    q = hn::MulAdd(q, t, set(0.170715362F));
    q = hn::MulAdd(q, t, set(0.169187993F));
    const VF tail = hn::Mul(hn::Mul(set(0.5F), hn::Mul(t, q)), bell);
    return hn::IfThenElse(hn::Lt(x, hn::Zero(DF())), tail, hn::Sub(set(1.0F), tail));
}

/// x Phi(x)
struct GeluExact {
    static HWY_INLINE VF value(VF x) {
        VF bell;
        const VF phi = normal_distribution(x, bell);
        return hn::Mul(x, phi);
    }
    static HWY_INLINE VF slope(VF x) {
        VF bell;
        const VF phi = normal_distribution(x, bell);
        return hn::MulAdd(hn::Mul(x, set(0.39894228040143268F)), bell, phi);
    }
};

/// 0.5 x (1 + tanh u) = x logistic(2u), u = sqrt(2 / pi) (x + 0.044715 x^3): no cancellation, and
/// no tanh.
struct GeluTanh {
    static constexpr float kTwoScale = 1.59576912160573071F;
    static constexpr float kCube = 0.044715F;

    static HWY_INLINE VF gate(VF x) {
        const VF inner = hn::MulAdd(hn::Mul(x, x), set(kTwoScale * kCube), set(kTwoScale));
        return logistic(hn::Mul(x, inner));
    }
    static HWY_INLINE VF value(VF x) { return hn::Mul(x, gate(x)); }
    static HWY_INLINE VF slope(VF x) {
        const VF s = gate(x);
        const VF d_inner = hn::MulAdd(hn::Mul(x, x), set(3.0F * kTwoScale * kCube), set(kTwoScale));
        // Where s (1 - s) is 0, x d_inner may be infinite.
        const VF bend = hn::Mul(s, hn::Sub(set(1.0F), s));
        const VF term = hn::Mul(hn::Mul(x, d_inner), bend);
        return hn::Add(s, hn::IfThenElse(hn::Eq(bend, hn::Zero(DF())), bend, term));
    }
};

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
