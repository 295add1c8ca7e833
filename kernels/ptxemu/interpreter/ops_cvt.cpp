// cvt between all types.
#include <cmath>

#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/lane.h"
#include "kernels/ptxemu/interpreter/smallfloat.h"

namespace ptxemu {

Fn packed_cvt(Dec& d);  // ops_cvt_packed.cpp

namespace {

// ---- integer targets
template <class S, class D>
D sat_int(S v) {
    // value of v clamped to D; both integers
    i128 x = (i128)v;
    i128 lo = std::is_signed_v<D> ? -((i128)1 << (sizeof(D) * 8 - 1)) : 0,
         hi = ((i128)1 << (sizeof(D) * 8 - (std::is_signed_v<D> ? 1 : 0))) - 1;
    return (D)(x < lo ? lo : x > hi ? hi : x);
}
template <class D>
D float_to_int(double v) {
    if (v != v) return 0;
    constexpr double hi =
        std::is_signed_v<D>
            ? (double)(1ull << (sizeof(D) * 8 - 1))
            : (sizeof(D) == 8 ? 18446744073709551616.0 : (double)(1ull << (sizeof(D) * 8 % 64)));
    constexpr double lo = std::is_signed_v<D> ? -hi : 0;
    if (v >= hi) return (D)(std::is_signed_v<D> ? ((u64)1 << (sizeof(D) * 8 - 1)) - 1 : ~0ull);
    if (v <= lo) return (D)lo;
    return (D)v;
}
double round_to(double v, int r) {  // r: 0 nearest even, 1 down, 2 up, 3 zero
    switch (r) {
        case 0:
            return std::nearbyint(v);
        case 1:
            return std::floor(v);
        case 2:
            return std::ceil(v);
        default:
            return std::trunc(v);
    }
}

// A generic scalar conversion: source kind and target kind by number, done lane by lane through
// double or i128. Common pairs get their own vector loop below.
struct Spec {
    Ty d, s;
    u8 rnd;
    bool sat, ftz, relu, integral, satfinite;
};

u64 read_int(Warp& w, u32 off, int l, Ty t) {
    switch (t) {
        case Ty::U8:
        case Ty::B8:
            return (u8)w.reg<u32>(off)[l];
        case Ty::S8:
            return (u64)(i64)(i8)w.reg<u32>(off)[l];
        case Ty::U16:
        case Ty::B16:
            return (u16)w.reg<u32>(off)[l];
        case Ty::S16:
            return (u64)(i64)(i16)w.reg<u32>(off)[l];
        case Ty::S32:
            return (u64)(i64)(i32)w.reg<u32>(off)[l];
        case Ty::U64:
        case Ty::S64:
        case Ty::B64:
            return w.reg<u64>(off)[l];
        default:
            return w.reg<u32>(off)[l];
    }
}
double read_float(Warp& w, u32 off, int l, Ty t) {
    switch (t) {
        case Ty::F16:
            return to_f(f16{(u16)w.reg<u32>(off)[l]});
        case Ty::BF16:
            return to_f(bf16{(u16)w.reg<u32>(off)[l]});
        case Ty::F64:
            return w.reg<double>(off)[l];
        default:
            return w.reg<float>(off)[l];
    }
}
float narrow(double v, int r) {
    float f = (float)v;
    if (r == 0 || (double)f == v || v != v) return f;
    bool up = r == 2 || (r == 3 && v < 0), down = r == 1 || (r == 3 && v > 0);
    if (up && (double)f < v) f = std::nextafter(f, INFINITY);
    if (down && (double)f > v) f = std::nextafter(f, -INFINITY);
    return f;
}
template <class I>
double int_to_double(I v, int r) {
    double x = (double)v;
    if (r == 0) return x;
    i128 back = (i128)x, want = (i128)v;
    bool up = r == 2 || (r == 3 && want < 0), down = r == 1 || (r == 3 && want > 0);
    if (up && back < want) x = std::nextafter(x, INFINITY);
    if (down && back > want) x = std::nextafter(x, -INFINITY);
    return x;
}
template <class I>
float int_to_float(I v, int r) {
    float x = (float)v;
    if (r == 0) return x;
    i128 back = (i128)x, want = (i128)v;
    bool up = r == 2 || (r == 3 && want < 0), down = r == 1 || (r == 3 && want > 0);
    if (up && back < want) x = std::nextafter(x, INFINITY);
    if (down && back > want) x = std::nextafter(x, -INFINITY);
    return x;
}

u32 to_half_bits(double v, Ty t, int r) {
    static const Rnd m[] = {Rnd::RN, Rnd::RM, Rnd::RP, Rnd::RZ};
    if (v != v) return 0x7fff;
    return t == Ty::F16 ? Half::from(v, m[r], false) : Small<8, 7, true>::from(v, m[r], false);
}

void write_float(Warp& w, u32 off, int l, double v, const Spec& c) {
    if (c.sat) v = v > 0 ? (v < 1 ? v : 1.0) : 0.0;
    if (c.relu && v == v) v = v > 0 ? v : 0.0;
    switch (c.d) {
        case Ty::F16:
        case Ty::BF16: {
            u32 b = to_half_bits(v, c.d, c.rnd);
            if (c.satfinite && (b & 0x7fff) == (c.d == Ty::F16 ? 0x7c00u : 0x7f80u)) b -= 1;
            w.reg<u32>(off)[l] = b;
            break;
        }
        case Ty::F64:
            w.reg<double>(off)[l] = v;
            break;
        default: {
            float f = narrow(v, c.rnd);
            w.reg<float>(off)[l] = canon(c.ftz ? ftz(f) : f);
        }
    }
}

void write_int(Warp& w, u32 off, int l, u64 v, Ty t) {
    switch (t) {
        case Ty::U8:
        case Ty::B8:
            w.reg<u32>(off)[l] = (u8)v;
            break;
        case Ty::S8:
            w.reg<u32>(off)[l] = (u32)(i32)(i8)v;
            break;
        case Ty::U16:
        case Ty::B16:
            w.reg<u32>(off)[l] = (u16)v;
            break;
        case Ty::S16:
            w.reg<u32>(off)[l] = (u32)(i32)(i16)v;
            break;
        case Ty::U64:
        case Ty::S64:
        case Ty::B64:
            w.reg<u64>(off)[l] = v;
            break;
        default:
            w.reg<u32>(off)[l] = (u32)v;
    }
}
u64 clamp_int(u64 bits, bool src_signed, Ty t) {
    auto go = [&](auto z) {
        using D = decltype(z);
        return src_signed ? (u64)sat_int<i64, D>((i64)bits) : (u64)sat_int<u64, D>(bits);
    };
    switch (t) {
        case Ty::U8:
            return go(u8{});
        case Ty::S8:
            return go(i8{});
        case Ty::U16:
            return go(u16{});
        case Ty::S16:
            return go(i16{});
        case Ty::U32:
            return go(u32{});
        case Ty::S32:
            return go(i32{});
        case Ty::U64:
            return go(u64{});
        default:
            return go(i64{});
    }
}
u64 f_to_i(double v, Ty t) {
    switch (t) {
        case Ty::U8:
            return float_to_int<u8>(v);
        case Ty::S8:
            return (u64)float_to_int<i8>(v);
        case Ty::U16:
            return float_to_int<u16>(v);
        case Ty::S16:
            return (u64)float_to_int<i16>(v);
        case Ty::U32:
            return float_to_int<u32>(v);
        case Ty::S32:
            return (u64)float_to_int<i32>(v);
        case Ty::U64:
            return float_to_int<u64>(v);
        default:
            return (u64)float_to_int<i64>(v);
    }
}

Ctl cvt_generic(Warp& w, const Ins& i, u32 m) {
    Spec c{(Ty)i.sub,          (Ty)i.sub2,         i.sub3,
           (bool)(i.sub4 & 1), (bool)(i.sub4 & 2), (bool)(i.sub4 & 4),
           (bool)(i.sub4 & 8), (bool)(i.sub4 & 16)};
    bool sf = is_float(c.s), df = is_float(c.d);
    lanes(m, [&](int l) {
        if (sf && df) {
            double v = read_float(w, i.o[1], l, c.s);
            if (c.ftz && c.s == Ty::F32) v = ftz((float)v);
            if (c.integral) {
                v = round_to(v, c.rnd);
                Spec e = c;
                e.rnd = 0;
                write_float(w, i.o[0], l, v, e);
            } else
                write_float(w, i.o[0], l, v, c);
        } else if (sf) {
            double v = read_float(w, i.o[1], l, c.s);
            if (c.ftz && c.s == Ty::F32) v = ftz((float)v);
            write_int(w, i.o[0], l, f_to_i(round_to(v, c.rnd), c.d), c.d);
        } else if (df) {
            u64 b = read_int(w, i.o[1], l, c.s);
            bool sg = is_signed(c.s);
            if (c.d == Ty::F64)
                w.reg<double>(i.o[0])[l] =
                    sg ? int_to_double((i64)b, c.rnd) : int_to_double(b, c.rnd);
            else if (c.d == Ty::F32) {
                float f = sg ? int_to_float((i64)b, c.rnd) : int_to_float(b, c.rnd);
                w.reg<float>(i.o[0])[l] = c.sat ? (f > 0 ? (f < 1 ? f : 1.0f) : 0.0f) : f;
            } else {
                // 64-bit integers beyond 2^53 are far outside f16; for bf16 round to odd first
                double v = sg ? int_to_double((i64)b, 3) : int_to_double(b, 3);
                if ((i128)v != (sg ? (i128)(i64)b : (i128)b))
                    v = std::bit_cast<double>(std::bit_cast<u64>(v) | 1);
                write_float(w, i.o[0], l, v, c);
            }
        } else {
            u64 b = read_int(w, i.o[1], l, c.s);
            if (c.sat) b = clamp_int(b, is_signed(c.s), c.d);
            write_int(w, i.o[0], l, b, c.d);
        }
    });
    return Next;
}
}  // namespace

bool dec_cvt(Dec& d) {
    Ins& in = d.in;
    if (d.I.op != "cvt") return false;
    in.cls = Cls::Cvt;
    if (d.has("pack")) {  // cvt.pack.sat.{s8,u8,s16,u16}.s32[.b32] d, a, b[, c]
        Ty dt = d.ty(0);
        in.o[1] = d.src(1, 4);
        in.o[2] = d.src(2, 4);
        in.o[3] = d.nops() > 3 ? d.src(3, 4) : d.constant(0, 4);
        in.o[0] = d.dst(0, 4);
        switch (dt) {
            case Ty::S8:
                in.fn = handler([](i32 a, i32 b, u32 c) -> u32 {
                    return c << 16 | (u32)(u8)sat_int<i32, i8>(a) << 8 | (u8)sat_int<i32, i8>(b);
                });
                break;
            case Ty::U8:
                in.fn = handler([](i32 a, i32 b, u32 c) -> u32 {
                    return c << 16 | (u32)sat_int<i32, u8>(a) << 8 | sat_int<i32, u8>(b);
                });
                break;
            case Ty::S16:
                in.fn = handler([](i32 a, i32 b, u32) -> u32 {
                    return (u32)(u16)sat_int<i32, i16>(a) << 16 | (u16)sat_int<i32, i16>(b);
                });
                break;
            case Ty::U16:
                in.fn = handler([](i32 a, i32 b, u32) -> u32 {
                    return (u32)sat_int<i32, u16>(a) << 16 | sat_int<i32, u16>(b);
                });
                break;
            default:
                return false;
        }
        return true;
    }
    if (d.types.size() != 2) return false;
    Ty dt = d.ty(0), st = d.ty(1);
    if (dt == Ty::TF32) {
        in.o[1] = d.src(1, 4);
        in.o[0] = d.dst(0, 4);
        bool relu = d.has("relu");
        if (d.has("rna"))
            in.fn = handler([](float a) { return tf32rna(a); });
        else if (d.has("rz"))
            in.fn = handler([](u32 a) -> u32 {
                return (a & 0x7fffffff) > 0x7f800000 ? 0x7fffffffu : a & ~0x1fffu;
            });
        else
            in.fn = relu ? handler([](float a) { return a > 0 || a != a ? tf32rn(a) : 0u; })
                         : handler([](float a) { return tf32rn(a); });
        return true;
    }
    if (Fn f = packed_cvt(d)) {
        in.fn = f;
        for (int k = 1; k < d.nops(); ++k) in.o[k] = d.src(k, 4);
        in.o[0] = d.dst(0, 4);
        return true;
    }
    auto scalar = [](Ty t) {
        return t != Ty::None && t < Ty::B128
                   ? true
                   : t == Ty::F16 || t == Ty::BF16 || t == Ty::F32 || t == Ty::F64;
    };
    if (!scalar(dt) || !scalar(st)) return false;
    in.o[1] = d.src_t(1, st);
    int dw = Dec::slot(dt);
    in.sub = (u8)dt;
    in.sub2 = (u8)st;
    bool integral = d.has("rni") || d.has("rzi") || d.has("rmi") || d.has("rpi");
    in.sub3 = d.has("rz") || d.has("rzi")   ? 3
              : d.has("rm") || d.has("rmi") ? 1
              : d.has("rp") || d.has("rpi") ? 2
                                            : 0;
    bool sat = d.has("sat"), z = d.has("ftz");
    in.sub4 = (u8)((sat ? 1 : 0) | (z ? 2 : 0) | (d.has("relu") ? 4 : 0) | (integral ? 8 : 0) |
                   (d.has("satfinite") ? 16 : 0));
    in.fn = cvt_generic;
    // destination wider than the type: integers are extended by their sign
    if (dw == 4 && d.reg_width(d.op(0)) == 8 && !is_float(dt)) {
        in.o[0] = d.temp(4);
        Ins x;
        x.src = in.src;
        x.fi = in.fi;
        x.guard = in.guard;
        x.guard_neg = in.guard_neg;
        x.o[0] = d.F.reg_off[d.op(0).reg];
        x.o[1] = in.o[0];
        x.fn = is_signed(dt) ? handler([](i32 a) -> i64 { return a; })
                             : handler([](u32 a) -> u64 { return a; });
        d.after.push_back(x);
    } else
        in.o[0] = d.dst(0, dw);
    // fast common pairs
    if (!sat && !z && !(in.sub4 & 0x14)) {
        if (dt == Ty::F32 && st == Ty::S32 && in.sub3 == 0)
            in.fn = handler([](i32 a) { return (float)a; });
        if (dt == Ty::F32 && st == Ty::U32 && in.sub3 == 0)
            in.fn = handler([](u32 a) { return (float)a; });
        if (dt == Ty::F32 && st == Ty::F16) in.fn = handler([](f16 a) { return canon(to_f(a)); });
        if (dt == Ty::F32 && st == Ty::BF16) in.fn = handler([](bf16 a) { return canon(to_f(a)); });
        if (dt == Ty::BF16 && st == Ty::F32 && in.sub3 == 0)
            in.fn = handler([](float a) { return to_b(a); });
        if (dt == Ty::F16 && st == Ty::F32 && in.sub3 == 0)
            in.fn = handler([](float a) { return to_h(a); });
        if (dt == Ty::F64 && st == Ty::F32) in.fn = handler([](float a) { return (double)a; });
        if (dt == Ty::F32 && st == Ty::F64 && in.sub3 == 0 && !integral)
            in.fn = handler([](double a) { return canon((float)a); });
        if ((dt == Ty::U64 || dt == Ty::S64) && st == Ty::U32)
            in.fn = handler([](u32 a) -> u64 { return a; });
        if ((dt == Ty::U64 || dt == Ty::S64) && st == Ty::S32)
            in.fn = handler([](i32 a) -> i64 { return a; });
        if ((dt == Ty::U32 || dt == Ty::S32) && (st == Ty::U64 || st == Ty::S64))
            in.fn = handler([](u64 a) -> u32 { return (u32)a; });
        if ((dt == Ty::U32 || dt == Ty::S32) && st == Ty::U16)
            in.fn = handler([](u16 a) -> u32 { return a; });
        if ((dt == Ty::U32 || dt == Ty::S32) && st == Ty::S16)
            in.fn = handler([](i16 a) -> i32 { return a; });
        if (dt == Ty::U16 && (st == Ty::U32 || st == Ty::S32))
            in.fn = handler([](u32 a) -> u32 { return a & 0xffff; });
    }
    return true;
}

}  // namespace ptxemu
