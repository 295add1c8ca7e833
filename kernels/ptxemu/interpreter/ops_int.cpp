// Integer arithmetic, carries, packed dot products.
#include <limits>

#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/lane.h"

namespace ptxemu {
namespace {

template <class T>
struct Wide;
template <>
struct Wide<u16> {
    using type = u32;
};
template <>
struct Wide<i16> {
    using type = i32;
};
template <>
struct Wide<u32> {
    using type = u64;
};
template <>
struct Wide<i32> {
    using type = i64;
};
template <>
struct Wide<u64> {
    using type = u128;
};
template <>
struct Wide<i64> {
    using type = i128;
};

template <class T>
T sat_add(T a, T b) {
    T r;
    return __builtin_add_overflow(a, b, &r)
               ? (a < 0 ? std::numeric_limits<T>::min() : std::numeric_limits<T>::max())
               : r;
}
template <class T>
T sat_sub(T a, T b) {
    T r;
    return __builtin_sub_overflow(a, b, &r)
               ? (a < 0 ? std::numeric_limits<T>::min() : std::numeric_limits<T>::max())
               : r;
}

template <class T>
Fn two_op(Dec& d) {
    using U = std::make_unsigned_t<T>;
    using W = typename Wide<T>::type;
    const std::string& o = d.I.op;
    if (o == "add")
        return d.has("sat") ? handler([](T a, T b) -> T { return sat_add(a, b); })
                            : handler([](T a, T b) -> T { return (T)((U)a + (U)b); });
    if (o == "sub")
        return d.has("sat") ? handler([](T a, T b) -> T { return sat_sub(a, b); })
                            : handler([](T a, T b) -> T { return (T)((U)a - (U)b); });
    if (o == "mul" && d.has("hi"))
        return handler([](T a, T b) -> T { return (T)(((W)a * (W)b) >> (8 * sizeof(T))); });
    if (o == "mul") return handler([](T a, T b) -> T { return (T)((u64)a * (u64)b); });
    if (o == "div")
        return handler([](T a, T b) -> T {
            if (b == 0) return (T)-1;
            if constexpr (std::is_signed_v<T>)
                if (b == -1) return (T)(0 - (U)a);
            return (T)(a / b);
        });
    if (o == "rem")
        return handler([](T a, T b) -> T {
            if (b == 0) return a;
            if constexpr (std::is_signed_v<T>)
                if (b == -1) return 0;
            return (T)(a % b);
        });
    if (o == "min")
        return d.has("relu") ? handler([](T a, T b) -> T {
            T r = a < b ? a : b;
            return r < 0 ? 0 : r;
        })
                             : handler([](T a, T b) -> T { return a < b ? a : b; });
    if (o == "max")
        return d.has("relu") ? handler([](T a, T b) -> T {
            T r = a > b ? a : b;
            return r < 0 ? 0 : r;
        })
                             : handler([](T a, T b) -> T { return a > b ? a : b; });
    return nullptr;
}
template <class T>
Fn mad_op(Dec& d) {
    using W = typename Wide<T>::type;
    if (d.has("hi")) {
        if (d.has("sat"))
            return handler([](T a, T b, T c) -> T {
                if constexpr (std::is_signed_v<T>)
                    return sat_add((T)(((W)a * (W)b) >> (8 * sizeof(T))), c);
                else
                    return 0;
            });
        return handler([](T a, T b, T c) -> T {
            return (T)((u64)(T)(((W)a * (W)b) >> (8 * sizeof(T))) + (u64)c);
        });
    }
    return handler([](T a, T b, T c) -> T { return (T)((u64)a * (u64)b + (u64)c); });
}
template <class T>
Fn one_op(Dec& d) {
    using U = std::make_unsigned_t<T>;
    if (d.I.op == "neg") return handler([](T a) -> T { return (T)(0 - (U)a); });
    return handler([](T a) -> T { return a < 0 ? (T)(0 - (U)a) : a; });
}
template <class F>
Fn by_type(Ty t, F&& f) {
    switch (t) {
        case Ty::U16:
        case Ty::B16:
            return f(u16{});
        case Ty::S16:
            return f(i16{});
        case Ty::U32:
        case Ty::B32:
            return f(u32{});
        case Ty::S32:
            return f(i32{});
        case Ty::U64:
        case Ty::B64:
            return f(u64{});
        case Ty::S64:
            return f(i64{});
        default:
            return nullptr;
    }
}

// packed 16-bit
template <class T, class F>
u32 pack2(u32 a, u32 b, F f) {
    u16 lo = (u16)f((T)(a & 0xffff), (T)(b & 0xffff)), hi = (u16)f((T)(a >> 16), (T)(b >> 16));
    return (u32)lo | (u32)hi << 16;
}
template <class T>
Fn packed(Dec& d) {
    const std::string& o = d.I.op;
    if (o == "add")
        return handler([](u32 a, u32 b) { return pack2<T>(a, b, [](T x, T y) { return x + y; }); });
    if (o == "sub")
        return handler([](u32 a, u32 b) { return pack2<T>(a, b, [](T x, T y) { return x - y; }); });
    if (o == "min")
        return handler(
            [](u32 a, u32 b) { return pack2<T>(a, b, [](T x, T y) { return x < y ? x : y; }); });
    if (o == "max")
        return handler(
            [](u32 a, u32 b) { return pack2<T>(a, b, [](T x, T y) { return x > y ? x : y; }); });
    return nullptr;
}

// add.cc and friends; sub: 1 writes carry, 2 reads carry, 4 subtract
template <class T>
Ctl carry_add(Warp& w, const Ins& i, u32 m) {
    T *d = w.reg<T>(i.o[0]), *a = w.reg<T>(i.o[1]), *b = w.reg<T>(i.o[2]);
    lanes(m, [&](int l) {
        T x = a[l], y = b[l];
        u32 c = (i.sub & 2) ? (w.cc >> l) & 1 : (i.sub & 4) ? 0 : 0;
        u128 r;
        bool co;
        if (i.sub & 4) {
            r = (u128)x - (u128)y - c;
            co = (u128)x < (u128)y + c;
        } else {
            r = (u128)x + (u128)y + c;
            co = (r >> (8 * sizeof(T))) & 1;
        }
        d[l] = (T)r;
        if (i.sub & 1) w.cc = (w.cc & ~(1u << l)) | ((u32)co << l);
    });
    return Next;
}
template <class T, class W>
Ctl carry_mad(Warp& w, const Ins& i, u32 m) {
    T *d = w.reg<T>(i.o[0]), *a = w.reg<T>(i.o[1]), *b = w.reg<T>(i.o[2]), *c = w.reg<T>(i.o[3]);
    lanes(m, [&](int l) {
        W p = (W)a[l] * (W)b[l];
        using U = std::make_unsigned_t<T>;
        U t = i.sub2 ? (U)(p >> (8 * sizeof(T))) : (U)p;
        u128 r = (u128)t + (u128)(U)c[l] + ((i.sub & 2) ? (w.cc >> l) & 1 : 0);
        d[l] = (T)r;
        if (i.sub & 1) w.cc = (w.cc & ~(1u << l)) | ((u32)((r >> (8 * sizeof(T))) & 1) << l);
    });
    return Next;
}

template <class A, class B>
u32 dp4(u32 a, u32 b, u32 c) {
    for (int k = 0; k < 4; ++k) c += (u32)((i32)(A)(a >> (8 * k)) * (i32)(B)(b >> (8 * k)));
    return c;
}
template <class A, class B, bool Hi>
u32 dp2(u32 a, u32 b, u32 c) {
    for (int k = 0; k < 2; ++k)
        c += (u32)((i32)(A)(a >> (16 * k)) * (i32)(B)(b >> (8 * k + (Hi ? 16 : 0))));
    return c;
}
}  // namespace

bool dec_int(Dec& d) {
    Ins& in = d.in;
    const std::string& o = d.I.op;
    Ty t = d.ty(0);
    in.cls = Cls::Int;
    auto bind = [&](int n, int w, int wd) {
        for (int k = 1; k <= n; ++k) in.o[k] = d.src(k, w);
        in.o[0] = d.dst(0, wd);
    };
    if (o == "mul24" || o == "mad24") {
        bool sg = t == Ty::S32, hi = d.has("hi");
        bind(o == "mul24" ? 2 : 3, 4, 4);
        if (o == "mul24") in.o[3] = d.constant(0, 4);
        if (sg)
            in.fn = hi ? handler([](u32 a, u32 b, u32 c) -> u32 {
                return (u32)((((i64)((i32)(a << 8) >> 8)) * ((i32)(b << 8) >> 8)) >> 16) + c;
            })
                       : handler([](u32 a, u32 b, u32 c) -> u32 {
                             return (u32)(((i64)((i32)(a << 8) >> 8)) * ((i32)(b << 8) >> 8)) + c;
                         });
        else
            in.fn = hi ? handler([](u32 a, u32 b, u32 c) -> u32 {
                return (u32)(((u64)(a & 0xffffff) * (b & 0xffffff)) >> 16) + c;
            })
                       : handler([](u32 a, u32 b, u32 c) -> u32 {
                             return (u32)((u64)(a & 0xffffff) * (b & 0xffffff)) + c;
                         });
        return true;
    }
    if (o == "dp4a" || o == "dp2a") {
        bind(3, 4, 4);
        bool sa = d.ty(0) == Ty::S32, sb = d.ty(1) == Ty::S32, hi = d.has("hi");
        if (o == "dp4a")
            in.fn = sa ? (sb ? handler([](u32 a, u32 b, u32 c) { return dp4<i8, i8>(a, b, c); })
                             : handler([](u32 a, u32 b, u32 c) { return dp4<i8, u8>(a, b, c); }))
                       : (sb ? handler([](u32 a, u32 b, u32 c) { return dp4<u8, i8>(a, b, c); })
                             : handler([](u32 a, u32 b, u32 c) { return dp4<u8, u8>(a, b, c); }));
        else if (sa != sb)
            return false;
        else if (sa)
            in.fn = hi ? handler([](u32 a, u32 b, u32 c) { return dp2<i16, i8, true>(a, b, c); })
                       : handler([](u32 a, u32 b, u32 c) { return dp2<i16, i8, false>(a, b, c); });
        else
            in.fn = hi ? handler([](u32 a, u32 b, u32 c) { return dp2<u16, u8, true>(a, b, c); })
                       : handler([](u32 a, u32 b, u32 c) { return dp2<u16, u8, false>(a, b, c); });
        return true;
    }
    if (t == Ty::U16x2 || t == Ty::S16x2) {
        in.fn = t == Ty::U16x2 ? packed<u16>(d) : packed<i16>(d);
        if (!in.fn) return false;
        bind(2, 4, 4);
        return true;
    }
    if (is_float(t) || t == Ty::F16x2 || t == Ty::BF16x2 || t == Ty::F32x2 || t == Ty::None)
        return false;
    int w = Dec::slot(t);
    bool cc = d.has("cc");
    if (o == "addc" || o == "subc" || ((o == "add" || o == "sub") && cc)) {
        in.sub = (u8)((cc ? 1 : 0) | (o.back() == 'c' ? 2 : 0) | (o[0] == 's' ? 4 : 0));
        in.fn = w == 8 ? carry_add<u64> : carry_add<u32>;
        bind(2, w, w);
        return true;
    }
    if (o == "madc" || (o == "mad" && cc)) {
        in.sub = (u8)((cc ? 1 : 0) | (o == "madc" ? 2 : 0));
        in.sub2 = d.has("hi");
        bool sg = is_signed(t);
        in.fn = w == 8 ? (sg ? carry_mad<u64, i128> : carry_mad<u64, u128>)
                       : (sg ? carry_mad<u32, i64> : carry_mad<u32, u64>);
        if (sg && d.has("hi")) {
            in.fn = w == 8 ? (Fn)[](Warp & W, const Ins& i, u32 m)->Ctl {
                return carry_mad<i64, i128>(W, i, m);
            }
                     : (Fn)[](Warp& W, const Ins& i, u32 m) -> Ctl { return carry_mad<i32, i64>(W, i, m); };
        }
        bind(3, w, w);
        return true;
    }
    if ((o == "mul" || o == "mad") && d.has("wide")) {
        int n = o == "mul" ? 2 : 3, wd = ty_size(t) * 2 <= 4 ? 4 : ty_size(t) * 2;
        in.o[1] = d.src(1, w);
        in.o[2] = d.src(2, w);
        if (n == 3) in.o[3] = d.src(3, wd);
        in.o[0] = d.dst(0, wd);
        auto f = [&](auto z) -> Fn {
            using T = decltype(z);
            using W = typename Wide<T>::type;
            if constexpr (sizeof(T) == 8) {
                return n == 2 ? handler([](T a, T b) -> u128 { return (u128)((W)a * (W)b); })
                              : handler([](T a, T b, u128 c) -> u128 {
                                    return (u128)((W)a * (W)b) + c;
                                });
            } else {
                using UW = std::make_unsigned_t<W>;
                return n == 2 ? handler([](T a, T b) -> W { return (W)((UW)(W)a * (UW)(W)b); })
                              : handler([](T a, T b, W c) -> W {
                                    return (W)((UW)(W)a * (UW)(W)b + (UW)c);
                                });
            }
        };
        in.fn = by_type(t, f);
        return in.fn != nullptr;
    }
    if (o == "add" || o == "sub" || o == "mul" || o == "div" || o == "rem" || o == "min" ||
        o == "max") {
        in.fn = by_type(t, [&](auto z) { return two_op<decltype(z)>(d); });
        if (!in.fn) return false;
        bind(2, w, w);
        return true;
    }
    if (o == "mad") {
        in.fn = by_type(t, [&](auto z) { return mad_op<decltype(z)>(d); });
        if (!in.fn) return false;
        bind(3, w, w);
        return true;
    }
    if (o == "neg" || o == "abs") {
        in.fn = by_type(t, [&](auto z) { return one_op<decltype(z)>(d); });
        if (!in.fn) return false;
        bind(1, w, w);
        return true;
    }
    if (o == "sad") {
        in.fn = by_type(t, [&](auto z) {
            using T = decltype(z);
            return handler([](T a, T b, T c) -> T {
                return (T)((u64)c + (a < b ? (u64)b - (u64)a : (u64)a - (u64)b));
            });
        });
        if (!in.fn) return false;
        bind(3, w, w);
        return true;
    }
    return false;
}

}  // namespace ptxemu
