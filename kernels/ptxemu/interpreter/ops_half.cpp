// f16, bf16 and their packed pairs.
#include <cmath>

#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/lane.h"
#include "kernels/ptxemu/interpreter/smallfloat.h"

namespace ptxemu {
namespace {

template <class H>
H back(float f);
template <>
f16 back<f16>(float f) {
    return to_h(f);
}
template <>
bf16 back<bf16>(float f) {
    return to_b(f);
}

// one rounding of a*b+c: the product is exact in double, the sum almost; round to odd keeps the tie
// information
inline double odd_sum(double p, double c) {
    double s = p + c;
    if (!std::isfinite(s)) return s;
    double bb = s - p, err = (p - (s - bb)) + (c - bb);  // exact error of the sum
    if (err != 0) {
        u64 u = std::bit_cast<u64>(s);
        if (!(u & 1)) u += ((err > 0) == (s > 0)) ? 1 : -1;
        s = std::bit_cast<double>(u);
    }
    return s;
}
template <class H>
H fma_h(H a, H b, H c) {
    double p = (double)to_f(a) * (double)to_f(b), s = odd_sum(p, (double)to_f(c));
    if constexpr (std::is_same_v<H, f16>)
        return to_h(s);
    else
        return to_b(s);
}
// sums and products of two halves are exact in double
template <class H>
H from_d(double v) {
    if constexpr (std::is_same_v<H, f16>) {
        float f = (float)v;
        if ((double)f == v) return to_h(f);
        return to_h(v);
    } else {
        float f = (float)v;
        if ((double)f == v) return to_b(f);
        return to_b(v);
    }
}
template <class H>
H min_h(H a, H b, bool nan, bool mx) {
    float x = to_f(a), y = to_f(b);
    if (x != x || y != y) {
        if (nan || (x != x && y != y)) return {0x7fff};
        return x != x ? b : a;
    }
    if (x == 0 && y == 0) return std::signbit(x) != mx ? a : b;
    return (mx ? x > y : x < y) ? a : b;
}
template <class H>
H sat_h(H a) {
    float x = to_f(a);
    return x > 0 ? (x < 1 ? a : back<H>(1.0f)) : H{0};
}
template <class H>
H relu_h(H a) {
    float x = to_f(a);
    return x != x ? H{0x7fff} : x > 0 ? a : H{0};
}

enum class Op { Add, Sub, Mul, Fma, Neg, Abs, Min, Max, MinN, MaxN, Ex2, Tanh };
template <class H, Op O>
H apply(H a, H b, H c) {
    switch (O) {
        case Op::Add:
            return from_d<H>((double)to_f(a) + (double)to_f(b));
        case Op::Sub:
            return from_d<H>((double)to_f(a) - (double)to_f(b));
        case Op::Mul:
            return from_d<H>((double)to_f(a) * (double)to_f(b));
        case Op::Fma:
            return fma_h(a, b, c);
        case Op::Neg:
            return H{(u16)(a.v ^ 0x8000)};
        case Op::Abs:
            return H{(u16)(a.v & 0x7fff)};
        case Op::Min:
            return min_h(a, b, false, false);
        case Op::Max:
            return min_h(a, b, false, true);
        case Op::MinN:
            return min_h(a, b, true, false);
        case Op::MaxN:
            return min_h(a, b, true, true);
        case Op::Ex2:
            return back<H>((float)std::exp2((double)to_f(a)));
        case Op::Tanh:
            return back<H>((float)std::tanh((double)to_f(a)));
    }
}
template <class H, int Post>
H post(H r) {
    return Post == 1 ? sat_h(r) : Post == 2 ? relu_h(r) : r;
}

template <class H>
struct Two {
    H lo, hi;
};
template <class H, Op O, int Post, bool Packed, int N>
Fn make() {
    if constexpr (Packed) {
        using P = Two<H>;
        auto f = [](P a, P b, P c) {
            return P{post<H, Post>(apply<H, O>(a.lo, b.lo, c.lo)),
                     post<H, Post>(apply<H, O>(a.hi, b.hi, c.hi))};
        };
        if constexpr (N == 1)
            return handler([](P a) {
                P z{};
                return decltype(f){}(a, z, z);
            });
        else if constexpr (N == 2)
            return handler([](P a, P b) {
                P z{};
                return decltype(f){}(a, b, z);
            });
        else
            return handler([](P a, P b, P c) { return decltype(f){}(a, b, c); });
    } else {
        if constexpr (N == 1)
            return handler([](H a) {
                H z{};
                return post<H, Post>(apply<H, O>(a, z, z));
            });
        else if constexpr (N == 2)
            return handler([](H a, H b) {
                H z{};
                return post<H, Post>(apply<H, O>(a, b, z));
            });
        else
            return handler([](H a, H b, H c) { return post<H, Post>(apply<H, O>(a, b, c)); });
    }
}
template <class H, Op O, bool P, int N>
Fn make_post(int post) {
    return post == 1   ? make<H, O, 1, P, N>()
           : post == 2 ? make<H, O, 2, P, N>()
                       : make<H, O, 0, P, N>();
}
template <class H, bool P>
Fn pick(Dec& d, int& n) {
    const std::string& o = d.I.op;
    int post = d.has("sat") ? 1 : d.has("relu") ? 2 : 0;
    bool nan = d.has("NaN");
    n = 2;
    if (o == "add") return make_post<H, Op::Add, P, 2>(post);
    if (o == "sub") return make_post<H, Op::Sub, P, 2>(post);
    if (o == "mul") return make_post<H, Op::Mul, P, 2>(post);
    if (o == "min") return nan ? make<H, Op::MinN, 0, P, 2>() : make<H, Op::Min, 0, P, 2>();
    if (o == "max") return nan ? make<H, Op::MaxN, 0, P, 2>() : make<H, Op::Max, 0, P, 2>();
    n = 3;
    if (o == "fma") return make_post<H, Op::Fma, P, 3>(post);
    n = 1;
    if (o == "neg") return make<H, Op::Neg, 0, P, 1>();
    if (o == "abs") return make<H, Op::Abs, 0, P, 1>();
    if (o == "ex2") return make<H, Op::Ex2, 0, P, 1>();
    if (o == "tanh") return make<H, Op::Tanh, 0, P, 1>();
    return nullptr;
}
}  // namespace

bool dec_half(Dec& d) {
    Ins& in = d.in;
    Ty t = d.ty(0);
    if (d.types.size() != 1) {
        // add/sub/fma of f32 with a half operand
        if (d.types.size() == 2 && d.ty(0) == Ty::F32 &&
            (d.ty(1) == Ty::F16 || d.ty(1) == Ty::BF16) &&
            (d.I.op == "add" || d.I.op == "sub" || d.I.op == "fma")) {
            bool b = d.ty(1) == Ty::BF16;
            for (int k = 1; k < d.nops(); ++k) in.o[k] = d.src(k, 4);
            in.o[0] = d.dst(0, 4);
            in.cls = Cls::Float;
            if (d.I.op == "add")
                in.fn = b ? handler([](bf16 a, float c) { return canon(to_f(a) + c); })
                          : handler([](f16 a, float c) { return canon(to_f(a) + c); });
            else if (d.I.op == "sub")
                in.fn = b ? handler([](bf16 a, float c) { return canon(to_f(a) - c); })
                          : handler([](f16 a, float c) { return canon(to_f(a) - c); });
            else
                in.fn = b ? handler([](bf16 a, bf16 e, float c) {
                    return canon(__builtin_fmaf(to_f(a), to_f(e), c));
                })
                          : handler([](f16 a, f16 e, float c) {
                                return canon(__builtin_fmaf(to_f(a), to_f(e), c));
                            });
            return true;
        }
        return false;
    }
    int n = 0;
    Fn f = nullptr;
    if (t == Ty::F16)
        f = pick<f16, false>(d, n);
    else if (t == Ty::BF16)
        f = pick<bf16, false>(d, n);
    else if (t == Ty::F16x2)
        f = pick<f16, true>(d, n);
    else if (t == Ty::BF16x2)
        f = pick<bf16, true>(d, n);
    if (!f) return false;
    in.fn = f;
    in.cls = Cls::Half;
    for (int k = 1; k <= n; ++k) in.o[k] = d.src(k, 4);
    in.o[0] = d.dst(0, 4);
    return true;
}

}  // namespace ptxemu
