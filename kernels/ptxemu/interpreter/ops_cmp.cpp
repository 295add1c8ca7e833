// setp, set, selp, slct.
#include <cmath>

#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/lane.h"
#include "kernels/ptxemu/interpreter/smallfloat.h"

namespace ptxemu {
namespace {

enum Cmp : u8 { EQ, NE, LT, LE, GT, GE, LO, LS, HI, HS, EQU, NEU, LTU, LEU, GTU, GEU, NUM, NANC };

int cmp_of(const std::string& s) {
    static const char* n[] = {"eq", "ne",  "lt",  "le",  "gt",  "ge",  "lo",  "ls",  "hi",
                              "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"};
    for (int k = 0; k < 18; ++k)
        if (s == n[k]) return k;
    return -1;
}

template <int C, class T>
inline bool compare(T a, T b) {
    bool un = a != a || b != b;
    if constexpr (C == EQ)
        return a == b;
    else if constexpr (C == NE)
        return !un && a != b;
    else if constexpr (C == LT || C == LO)
        return a < b;
    else if constexpr (C == LE || C == LS)
        return a <= b;
    else if constexpr (C == GT || C == HI)
        return a > b;
    else if constexpr (C == GE || C == HS)
        return a >= b;
    else if constexpr (C == EQU)
        return un || a == b;
    else if constexpr (C == NEU)
        return a != b;
    else if constexpr (C == LTU)
        return un || a < b;
    else if constexpr (C == LEU)
        return un || a <= b;
    else if constexpr (C == GTU)
        return un || a > b;
    else if constexpr (C == GEU)
        return un || a >= b;
    else if constexpr (C == NUM)
        return !un;
    else
        return un;
}

template <class T>
struct Load {
    static T get(Warp& w, u32 off, int l) { return from_slot<T>(w.reg<Slot<T>>(off)[l]); }
};
struct FtzF {
    float v;
};
template <>
struct Load<FtzF> {
    static float get(Warp& w, u32 off, int l) { return ftz(w.reg<float>(off)[l]); }
};
template <>
struct Load<f16> {
    static float get(Warp& w, u32 off, int l) { return to_f(f16{(u16)w.reg<u32>(off)[l]}); }
};
template <>
struct Load<bf16> {
    static float get(Warp& w, u32 off, int l) { return to_f(bf16{(u16)w.reg<u32>(off)[l]}); }
};

template <int C, class T>
inline u32 mask_of(Warp& w, const Ins& i) {
    u32 r = 0;
    for (int l = 0; l < 32; ++l)
        r |= (u32)compare<C>(Load<T>::get(w, i.o[1], l), Load<T>::get(w, i.o[2], l)) << l;
    return r;
}
using MaskFn = u32 (*)(Warp&, const Ins&);
template <class T, int... C>
MaskFn mask_fn(int c, std::integer_sequence<int, C...>) {
    static constexpr MaskFn t[] = {&mask_of<C, T>...};
    return t[c];
}
template <class T>
MaskFn mask_fn(int c) {
    return mask_fn<T>(c, std::make_integer_sequence<int, 18>{});
}

template <int C, class T>
Ctl setp_plain(Warp& w, const Ins& i, u32 m) {
    u32 r = mask_of<C, T>(w, i);
    u32& p = w.pred(i.o[0]);
    p = (p & ~m) | (r & m);
    return Next;
}
template <class T, int... C>
Fn plain_fn(int c, std::integer_sequence<int, C...>) {
    static constexpr Fn t[] = {&setp_plain<C, T>...};
    return t[c];
}
template <class T>
Fn plain_fn(int c) {
    return plain_fn<T>(c, std::make_integer_sequence<int, 18>{});
}

u32 combine(Warp& w, const Ins& i, u32 r) {
    if (i.sub == 0) return r;
    u32 c = w.pred(i.o[3]);
    if (i.sub2) c = ~c;
    return i.sub == 1 ? r & c : i.sub == 2 ? r | c : r ^ c;
}
// full form: p|q with a boolean
Ctl setp_full(Warp& w, const Ins& i, u32 m) {
    u32 r = ((MaskFn)i.imm)(w, i), p = combine(w, i, r), q = combine(w, i, ~r);
    u32& dp = w.pred(i.o[0]);
    dp = (dp & ~m) | (p & m);
    if (i.o[4]) {
        u32& dq = w.pred(i.o[4]);
        dq = (dq & ~m) | (q & m);
    }
    return Next;
}
Ctl set_op(Warp& w, const Ins& i, u32 m) {
    u32 r = combine(w, i, ((MaskFn)i.imm)(w, i));
    u32* d = w.reg<u32>(i.o[0]);
    u32 yes = i.sub3 == 0 ? ~0u : i.sub3 == 1 ? 0x3f800000u : i.sub3 == 2 ? 0x3c00 : 0x3f80;
    lanes(m, [&](int l) { d[l] = (r >> l) & 1 ? yes : 0; });
    return Next;
}
// packed halves: one comparison a half; sub3 bf16
Ctl setp_packed(Warp& w, const Ins& i, u32 m) {
    u32 res[2] = {};
    u32 *a = w.reg<u32>(i.o[1]), *b = w.reg<u32>(i.o[2]);
    for (int h = 0; h < 2; ++h)
        lanes(m, [&](int l) {
            u16 x = (u16)(a[l] >> (16 * h)), y = (u16)(b[l] >> (16 * h));
            float fx = i.sub3 ? to_f(bf16{x}) : to_f(f16{x}),
                  fy = i.sub3 ? to_f(bf16{y}) : to_f(f16{y});
            bool v = false, un = fx != fx || fy != fy;
            switch (i.sub4) {
                case EQ:
                    v = fx == fy;
                    break;
                case NE:
                    v = !un && fx != fy;
                    break;
                case LT:
                    v = fx < fy;
                    break;
                case LE:
                    v = fx <= fy;
                    break;
                case GT:
                    v = fx > fy;
                    break;
                case GE:
                    v = fx >= fy;
                    break;
                case EQU:
                    v = un || fx == fy;
                    break;
                case NEU:
                    v = fx != fy;
                    break;
                case LTU:
                    v = un || fx < fy;
                    break;
                case LEU:
                    v = un || fx <= fy;
                    break;
                case GTU:
                    v = un || fx > fy;
                    break;
                case GEU:
                    v = un || fx >= fy;
                    break;
                case NUM:
                    v = !un;
                    break;
                default:
                    v = un;
                    break;
            }
            res[h] |= (u32)v << l;
        });
    if (i.space == 1) {  // set.f16x2
        u32* d = w.reg<u32>(i.o[0]);
        u32 r0 = combine(w, i, res[0]), r1 = combine(w, i, res[1]),
            one = i.msize == 1   ? 0x3c00
                  : i.msize == 2 ? 0x3f80
                                 : 0xffff;
        lanes(m,
              [&](int l) { d[l] = ((r0 >> l) & 1 ? one : 0) | ((r1 >> l) & 1 ? one << 16 : 0); });
        return Next;
    }
    for (int h = 0; h < 2; ++h) {
        u32 r = combine(w, i, res[h]);
        u32 off = h ? i.o[4] : i.o[0];
        if (off) {
            u32& p = w.pred(off);
            p = (p & ~m) | (r & m);
        }
    }
    return Next;
}

template <class T>
Ctl selp(Warp& w, const Ins& i, u32 m) {
    T *d = w.reg<T>(i.o[0]), *a = w.reg<T>(i.o[1]), *b = w.reg<T>(i.o[2]);
    u32 p = w.pred(i.o[3]);
    if (i.sub) p = ~p;
    if (m == ~0u) {
        for (int l = 0; l < 32; ++l) d[l] = (p >> l) & 1 ? a[l] : b[l];
    } else
        lanes(m, [&](int l) { d[l] = (p >> l) & 1 ? a[l] : b[l]; });
    return Next;
}

template <class G>
auto by_cmp_type(Ty t, bool z, G&& g) {
    switch (t) {
        case Ty::U16:
        case Ty::B16:
            return g((u16*)nullptr);
        case Ty::S16:
            return g((i16*)nullptr);
        case Ty::U32:
        case Ty::B32:
            return g((u32*)nullptr);
        case Ty::S32:
            return g((i32*)nullptr);
        case Ty::U64:
        case Ty::B64:
            return g((u64*)nullptr);
        case Ty::S64:
            return g((i64*)nullptr);
        case Ty::F32:
            return z ? g((FtzF*)nullptr) : g((float*)nullptr);
        case Ty::F64:
            return g((double*)nullptr);
        case Ty::F16:
            return g((f16*)nullptr);
        case Ty::BF16:
            return g((bf16*)nullptr);
        default:
            return decltype(g((u32*)nullptr))(nullptr);
    }
}
}  // namespace

bool dec_cmp(Dec& d) {
    Ins& in = d.in;
    const std::string& o = d.I.op;
    in.cls = Cls::Int;
    if (o == "selp") {
        int w = Dec::slot(d.ty(0));
        bool neg;
        in.o[1] = d.src(1, w);
        in.o[2] = d.src(2, w);
        in.o[3] = d.pred_src(d.op(3), neg);
        in.sub = neg;
        in.o[0] = d.dst(0, w);
        in.fn = w == 8 ? selp<u64> : selp<u32>;
        return true;
    }
    if (o == "slct") {
        int w = Dec::slot(d.ty(0));
        in.o[1] = d.src(1, w);
        in.o[2] = d.src(2, w);
        in.o[3] = d.src(3, 4);
        in.o[0] = d.dst(0, w);
        if (d.ty(1) == Ty::S32)
            in.fn = w == 8 ? handler([](u64 a, u64 b, i32 c) { return c >= 0 ? a : b; })
                           : handler([](u32 a, u32 b, i32 c) { return c >= 0 ? a : b; });
        else
            in.fn = w == 8 ? handler([](u64 a, u64 b, float c) { return c >= 0 ? a : b; })
                           : handler([](u32 a, u32 b, float c) { return c >= 0 ? a : b; });
        return true;
    }
    if (o != "setp" && o != "set") return false;
    int c = -1;
    for (auto& m : d.I.mods) {
        c = cmp_of(m);
        if (c >= 0) break;
    }
    if (c < 0) return false;
    Ty t = d.last();
    bool z = d.has("ftz");
    in.sub = d.has("and") ? 1 : d.has("or") ? 2 : d.has("xor") ? 3 : 0;
    bool is_int = !is_float(t) && t != Ty::F16x2 && t != Ty::BF16x2;
    if (is_int && is_signed(t) == false && c == NE) c = NEU;
    if (is_int && c == NE) c = NEU;
    in.o[1] = d.src_t(1, t);
    in.o[2] = d.src_t(2, t);
    if (in.sub) {
        bool neg;
        in.o[3] = d.pred_src(d.op(3), neg);
        in.sub2 = neg;
    }
    bool packed = t == Ty::F16x2 || t == Ty::BF16x2;
    if (packed) {
        in.fn = setp_packed;
        in.sub3 = t == Ty::BF16x2;
        in.sub4 = (u8)c;
    }
    if (o == "set") {
        Ty dt = d.ty(0);
        if (packed) {
            in.space = 1;
            in.msize = dt == Ty::F16x2 ? 1 : dt == Ty::BF16x2 ? 2 : 0;
            in.o[0] = d.dst(0, 4);
            return true;
        }
        in.sub3 = dt == Ty::F32 ? 1 : dt == Ty::F16 ? 2 : dt == Ty::BF16 ? 3 : 0;
        in.o[0] = d.dst(0, 4);
        in.imm = (i64)by_cmp_type(
            t, z, [&](auto* p) { return mask_fn<std::remove_pointer_t<decltype(p)>>(c); });
        in.fn = set_op;
        return in.imm != 0;
    }
    if (d.op(0).k == Opnd::Pair) {
        in.o[0] = d.pred_dst(d.op(0).sub[0]);
        in.o[4] = d.pred_dst(d.op(0).sub[1]);
    } else
        in.o[0] = d.pred_dst(d.op(0));
    if (packed) return true;
    if (in.sub == 0 && d.op(0).k != Opnd::Pair) {
        in.fn = by_cmp_type(
            t, z, [&](auto* p) { return plain_fn<std::remove_pointer_t<decltype(p)>>(c); });
        return in.fn != nullptr;
    }
    in.imm = (i64)by_cmp_type(
        t, z, [&](auto* p) { return mask_fn<std::remove_pointer_t<decltype(p)>>(c); });
    in.fn = setp_full;
    return in.imm != 0;
}

}  // namespace ptxemu
