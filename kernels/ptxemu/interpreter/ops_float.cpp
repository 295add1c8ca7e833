// f32, f32x2 and f64 arithmetic. Compiled with -frounding-math and without contraction.
#include <cmath>

#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/lane.h"
#include "kernels/ptxemu/interpreter/smallfloat.h"

namespace ptxemu {
namespace {

struct f2 {
    float lo, hi;
};

template <bool Z>
inline float in(float a) {
    return Z ? ftz(a) : a;
}
template <bool Z>
inline float out(float r) {
    return canon(Z ? ftz(r) : r);
}
template <bool S>
inline float sat(float r) {
    return S ? (r > 0 ? (r < 1 ? r : 1.0f) : 0.0f) : r;
}  // NaN -> 0

inline float min_f(float a, float b, bool nan) {
    if (a != a || b != b) {
        if (nan || (a != a && b != b)) return std::bit_cast<float>(0x7fffffffu);
        return a != a ? b : a;
    }
    if (a == 0 && b == 0) return std::signbit(a) ? a : b;
    return a < b ? a : b;
}
inline float max_f(float a, float b, bool nan) {
    if (a != a || b != b) {
        if (nan || (a != a && b != b)) return std::bit_cast<float>(0x7fffffffu);
        return a != a ? b : a;
    }
    if (a == 0 && b == 0) return std::signbit(a) ? b : a;
    return a > b ? a : b;
}

int rounding(const Dec& d) { return d.has("rz") ? 3 : d.has("rp") ? 2 : d.has("rm") ? 1 : 0; }

template <bool Z, bool S>
Fn f32_arith(Dec& d) {
    const std::string& o = d.I.op;
    int r = rounding(d);
    if (o == "add")
        return handler_round([](float a, float b) { return sat<S>(out<Z>(in<Z>(a) + in<Z>(b))); },
                             r);
    if (o == "sub")
        return handler_round([](float a, float b) { return sat<S>(out<Z>(in<Z>(a) - in<Z>(b))); },
                             r);
    if (o == "mul")
        return handler_round([](float a, float b) { return sat<S>(out<Z>(in<Z>(a) * in<Z>(b))); },
                             r);
    if (o == "fma" || o == "mad")
        return handler_round(
            [](float a, float b, float c) {
                return sat<S>(out<Z>(__builtin_fmaf(in<Z>(a), in<Z>(b), in<Z>(c))));
            },
            r);
    return nullptr;
}

template <bool Z>
Fn f32_other(Dec& d) {
    const std::string& o = d.I.op;
    int r = rounding(d);
    bool nan = d.has("NaN"), xs = d.has("xorsign"), ab = d.has("abs");
    if (o == "div")
        return handler_round([](float a, float b) { return out<Z>(in<Z>(a) / in<Z>(b)); }, r);
    if (o == "rcp") return handler_round([](float a) { return out<Z>(1.0f / in<Z>(a)); }, r);
    if (o == "sqrt") return handler_round([](float a) { return out<Z>(std::sqrt(in<Z>(a))); }, r);
    if (o == "rsqrt")
        return handler([](float a) { return out<Z>((float)(1.0 / std::sqrt((double)in<Z>(a)))); });
    if (o == "ex2")
        return handler([](float a) { return out<Z>((float)std::exp2((double)in<Z>(a))); });
    if (o == "lg2")
        return handler([](float a) { return out<Z>((float)std::log2((double)in<Z>(a))); });
    if (o == "sin")
        return handler([](float a) { return out<Z>((float)std::sin((double)in<Z>(a))); });
    if (o == "cos")
        return handler([](float a) { return out<Z>((float)std::cos((double)in<Z>(a))); });
    if (o == "tanh") return handler([](float a) { return out<Z>((float)std::tanh((double)a)); });
    if (o == "neg") return handler([](float a) { return Z ? ftz(-a) : -a; });
    if (o == "abs") return handler([](float a) { return Z ? ftz(std::fabs(a)) : std::fabs(a); });
    if (o == "min" || o == "max") {
        bool three = d.nops() == 4;
        if (xs && ab) {
            if (o == "min")
                return nan ? handler([](float a, float b) {
                    float v = min_f(std::fabs(a), std::fabs(b), true);
                    return std::signbit(a) != std::signbit(b) ? -v : v;
                })
                           : handler([](float a, float b) {
                                 float v = min_f(std::fabs(a), std::fabs(b), false);
                                 return std::signbit(a) != std::signbit(b) ? -v : v;
                             });
            return nan ? handler([](float a, float b) {
                float v = max_f(std::fabs(a), std::fabs(b), true);
                return std::signbit(a) != std::signbit(b) ? -v : v;
            })
                       : handler([](float a, float b) {
                             float v = max_f(std::fabs(a), std::fabs(b), false);
                             return std::signbit(a) != std::signbit(b) ? -v : v;
                         });
        }
        if (three) {
            if (ab) return nullptr;
            if (o == "min")
                return nan ? handler([](float a, float b, float c) {
                    return min_f(min_f(in<Z>(a), in<Z>(b), true), in<Z>(c), true);
                })
                           : handler([](float a, float b, float c) {
                                 return min_f(min_f(in<Z>(a), in<Z>(b), false), in<Z>(c), false);
                             });
            return nan ? handler([](float a, float b, float c) {
                return max_f(max_f(in<Z>(a), in<Z>(b), true), in<Z>(c), true);
            })
                       : handler([](float a, float b, float c) {
                             return max_f(max_f(in<Z>(a), in<Z>(b), false), in<Z>(c), false);
                         });
        }
        if (o == "min")
            return nan ? handler([](float a, float b) { return min_f(in<Z>(a), in<Z>(b), true); })
                       : handler([](float a, float b) { return min_f(in<Z>(a), in<Z>(b), false); });
        return nan ? handler([](float a, float b) { return max_f(in<Z>(a), in<Z>(b), true); })
                   : handler([](float a, float b) { return max_f(in<Z>(a), in<Z>(b), false); });
    }
    return nullptr;
}

Fn f64_op(Dec& d) {
    const std::string& o = d.I.op;
    int r = rounding(d);
    if (o == "add") return handler_round([](double a, double b) { return a + b; }, r);
    if (o == "sub") return handler_round([](double a, double b) { return a - b; }, r);
    if (o == "mul") return handler_round([](double a, double b) { return a * b; }, r);
    if (o == "div") return handler_round([](double a, double b) { return a / b; }, r);
    if (o == "fma" || o == "mad")
        return handler_round([](double a, double b, double c) { return __builtin_fma(a, b, c); },
                             r);
    if (o == "rcp") {
        if (d.has("approx"))
            return handler([](double a) {
                return std::bit_cast<double>(std::bit_cast<u64>(1.0 / a) & ~0xffffffffull);
            });
        return handler_round([](double a) { return 1.0 / a; }, r);
    }
    if (o == "sqrt") return handler_round([](double a) { return std::sqrt(a); }, r);
    if (o == "rsqrt")
        return handler([](double a) {
            return std::bit_cast<double>(std::bit_cast<u64>(1.0 / std::sqrt(a)) & ~0xffffffffull);
        });
    if (o == "neg") return handler([](double a) { return -a; });
    if (o == "abs") return handler([](double a) { return std::fabs(a); });
    if (o == "min")
        return handler([](double a, double b) {
            return a != a             ? b
                   : b != b           ? a
                   : a == 0 && b == 0 ? (std::signbit(a) ? a : b)
                   : a < b            ? a
                                      : b;
        });
    if (o == "max")
        return handler([](double a, double b) {
            return a != a             ? b
                   : b != b           ? a
                   : a == 0 && b == 0 ? (std::signbit(a) ? b : a)
                   : a > b            ? a
                                      : b;
        });
    return nullptr;
}

template <bool Z>
Fn f32x2_op(Dec& d) {
    const std::string& o = d.I.op;
    int r = rounding(d);
    if (o == "add")
        return handler_round(
            [](f2 a, f2 b) {
                return f2{out<Z>(in<Z>(a.lo) + in<Z>(b.lo)), out<Z>(in<Z>(a.hi) + in<Z>(b.hi))};
            },
            r);
    if (o == "sub")
        return handler_round(
            [](f2 a, f2 b) {
                return f2{out<Z>(in<Z>(a.lo) - in<Z>(b.lo)), out<Z>(in<Z>(a.hi) - in<Z>(b.hi))};
            },
            r);
    if (o == "mul")
        return handler_round(
            [](f2 a, f2 b) {
                return f2{out<Z>(in<Z>(a.lo) * in<Z>(b.lo)), out<Z>(in<Z>(a.hi) * in<Z>(b.hi))};
            },
            r);
    if (o == "fma")
        return handler_round(
            [](f2 a, f2 b, f2 c) {
                return f2{out<Z>(__builtin_fmaf(in<Z>(a.lo), in<Z>(b.lo), in<Z>(c.lo))),
                          out<Z>(__builtin_fmaf(in<Z>(a.hi), in<Z>(b.hi), in<Z>(c.hi)))};
            },
            r);
    return nullptr;
}

// testp; sub: which property
template <class T>
Ctl testp(Warp& w, const Ins& i, u32 m) {
    T* a = w.reg<T>(i.o[1]);
    u32 r = 0;
    lanes(m, [&](int l) {
        int c = std::fpclassify(a[l]);
        bool v = i.sub == 0   ? c != FP_NAN && c != FP_INFINITE
                 : i.sub == 1 ? c == FP_INFINITE
                 : i.sub == 2 ? c != FP_NAN
                 : i.sub == 3 ? c == FP_NAN
                 : i.sub == 4 ? c == FP_NORMAL || c == FP_ZERO
                              : c == FP_SUBNORMAL;
        if (i.sub == 4) v = c == FP_NORMAL;
        r |= (u32)v << l;
    });
    u32& p = w.pred(i.o[0]);
    p = (p & ~m) | r;
    return Next;
}
}  // namespace

bool dec_float(Dec& d) {
    Ins& in = d.in;
    const std::string& o = d.I.op;
    Ty t = d.ty(0);
    bool z = d.has("ftz"), s = d.has("sat");
    if (o == "testp") {
        in.cls = Cls::Float;
        in.fn = t == Ty::F64 ? testp<double> : testp<float>;
        in.sub = d.has("finite")       ? 0
                 : d.has("infinite")   ? 1
                 : d.has("number")     ? 2
                 : d.has("notanumber") ? 3
                 : d.has("normal")     ? 4
                                       : 5;
        in.o[1] = d.src_t(1, t);
        in.o[0] = d.pred_dst(d.op(0));
        return true;
    }
    if (o == "copysign") {
        in.cls = Cls::Float;
        in.o[1] = d.src_t(1, t);
        in.o[2] = d.src_t(2, t);
        in.o[0] = d.dst_t(0, t);
        in.fn = t == Ty::F64
                    ? handler([](u64 a, u64 b) { return (a & 1ull << 63) | (b & ~(1ull << 63)); })
                    : handler([](u32 a, u32 b) { return (a & 0x80000000u) | (b & 0x7fffffffu); });
        return true;
    }
    if (t == Ty::F32 && d.types.size() == 1) {
        in.fn = z ? (s ? f32_arith<true, true>(d) : f32_arith<true, false>(d))
                  : (s ? f32_arith<false, true>(d) : f32_arith<false, false>(d));
        if (!in.fn) in.fn = z ? f32_other<true>(d) : f32_other<false>(d);
        bool sp = o == "ex2" || o == "lg2" || o == "sin" || o == "cos" || o == "tanh" ||
                  o == "rcp" || o == "sqrt" || o == "rsqrt";
        in.cls = sp ? Cls::Special : Cls::Float;
    } else if (t == Ty::F64 && d.types.size() == 1) {
        in.fn = f64_op(d);
        in.cls = Cls::Double;
    } else if (t == Ty::F32x2) {
        in.fn = z ? f32x2_op<true>(d) : f32x2_op<false>(d);
        in.cls = Cls::Float;
    } else
        return false;
    if (!in.fn) return false;
    for (int k = 1; k < d.nops(); ++k) in.o[k] = d.src_t(k, t);
    in.o[0] = d.dst_t(0, t);
    return true;
}

}  // namespace ptxemu
