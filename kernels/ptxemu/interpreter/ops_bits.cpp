// Logic, shifts and bit fields.
#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/lane.h"

namespace ptxemu {
namespace {

u32 lop3(u32 a, u32 b, u32 c, u32 lut) {
    u32 r = 0;
    if (lut & 0x01) r |= ~a & ~b & ~c;
    if (lut & 0x02) r |= ~a & ~b & c;
    if (lut & 0x04) r |= ~a & b & ~c;
    if (lut & 0x08) r |= ~a & b & c;
    if (lut & 0x10) r |= a & ~b & ~c;
    if (lut & 0x20) r |= a & ~b & c;
    if (lut & 0x40) r |= a & b & ~c;
    if (lut & 0x80) r |= a & b & c;
    return r;
}
Ctl lop3_op(Warp& w, const Ins& i, u32 m) {
    u32 *d = w.reg<u32>(i.o[0]), *a = w.reg<u32>(i.o[1]), *b = w.reg<u32>(i.o[2]),
        *c = w.reg<u32>(i.o[3]);
    u32 lut = (u32)i.imm;
    if (m == ~0u)
        for (int l = 0; l < 32; ++l) d[l] = lop3(a[l], b[l], c[l], lut);
    else
        lanes(m, [&](int l) { d[l] = lop3(a[l], b[l], c[l], lut); });
    return Next;
}
// lop3.BoolOp: also p = (d != 0) op q
Ctl lop3_bool(Warp& w, const Ins& i, u32 m) {
    u32 *d = w.reg<u32>(i.o[0]), *a = w.reg<u32>(i.o[1]), *b = w.reg<u32>(i.o[2]),
        *c = w.reg<u32>(i.o[3]);
    u32 q = w.pred(i.o[5]), nz = 0;
    if (i.sub2) q = ~q;
    lanes(m, [&](int l) {
        d[l] = lop3(a[l], b[l], c[l], (u32)i.imm);
        nz |= (u32)(d[l] != 0) << l;
    });
    u32 r = i.sub ? nz | q : nz & q;
    u32& p = w.pred(i.o[4]);
    p = (p & ~m) | (r & m);
    return Next;
}

template <int Op>
Ctl pred_logic(Warp& w, const Ins& i, u32 m) {
    u32 a = w.pred(i.o[1]), b = Op == 3 ? 0 : w.pred(i.o[2]);
    if (i.sub) a = ~a;
    if (i.sub2) b = ~b;
    u32 r = Op == 0 ? a & b : Op == 1 ? a | b : Op == 2 ? a ^ b : ~a;
    u32& d = w.pred(i.o[0]);
    d = (d & ~m) | (r & m);
    return Next;
}

u32 prmt(u32 a, u32 b, u32 c, int mode) {
    u64 v = (u64)b << 32 | a;
    u32 r = 0;
    auto byte = [&](u32 k) { return (u32)(v >> (8 * (k & 7))) & 0xff; };
    if (mode == 0) {
        for (int k = 0; k < 4; ++k) {
            u32 s = (c >> (4 * k)) & 15, x = byte(s);
            if (s & 8) x = (x & 0x80) ? 0xff : 0;
            r |= x << (8 * k);
        }
        return r;
    }
    u32 n = c & 3;
    for (u32 k = 0; k < 4; ++k) {
        u32 s = 0;
        switch (mode) {
            case 1:
                s = n + k;
                break;  // f4e
            case 2:
                s = n - k;
                break;  // b4e
            case 3:
                s = n;
                break;  // rc8
            case 4:
                s = k > n ? k : n;
                break;  // ecl
            case 5:
                s = k < n ? k : n;
                break;  // ecr
            case 6:
                s = (n & 1) * 2 + (k & 1);
                break;  // rc16
        }
        r |= byte(s) << (8 * k);
    }
    return r;
}
template <int M>
Fn prmt_fn() {
    return handler([](u32 a, u32 b, u32 c) { return prmt(a, b, c, M); });
}

template <class T>
T bfe(T a, u32 b, u32 c) {
    constexpr u32 bits = sizeof(T) * 8;
    using U = std::make_unsigned_t<T>;
    u32 pos = b & 0xff, len = c & 0xff;
    u32 top = pos + len < bits ? pos + len : bits;
    bool sg = false;
    if constexpr (std::is_signed_v<T>) {
        if (len == 0) return 0;
        u32 sb = pos + len - 1 < bits - 1 ? pos + len - 1 : bits - 1;
        sg = ((U)a >> sb) & 1;
    }
    U r = 0;
    if (pos < bits && len) {
        u32 n = top - pos;
        r = (U)a >> pos;
        if (n < bits) r &= ((U)1 << n) - 1;
        if (sg && n < bits) r |= ~(U)0 << n;
    } else if (sg)
        r = ~(U)0;
    return (T)r;
}
template <class T>
T bfi(T a, T b, u32 c, u32 d) {
    constexpr u32 bits = sizeof(T) * 8;
    u32 pos = c & 0xff, len = d & 0xff;
    if (pos >= bits || len == 0) return b;
    if (len > bits - pos) len = bits - pos;
    T mask = (len == bits ? ~(T)0 : (((T)1 << len) - 1)) << pos;
    return (b & ~mask) | ((a << pos) & mask);
}
template <class T>
T brev(T a) {
    T r = 0;
    for (unsigned k = 0; k < sizeof(T) * 8; ++k) r |= ((a >> k) & 1) << (sizeof(T) * 8 - 1 - k);
    return r;
}
template <class T>
u32 bfind(T a, bool shift) {
    using U = std::make_unsigned_t<T>;
    U v = (U)a;
    if constexpr (std::is_signed_v<T>)
        if (a < 0) v = ~v;
    if (v == 0) return ~0u;
    u32 msb = 63 - (u32)__builtin_clzll((u64)v);
    return shift ? (u32)sizeof(T) * 8 - 1 - msb : msb;
}
u32 fns(u32 mask, u32 base, u32 offs) {
    i32 off = (i32)offs;
    if (off == 0) return (mask >> (base & 31)) & 1 ? base : ~0u;
    i32 pos = (i32)base, inc = off > 0 ? 1 : -1;
    u32 need = (u32)(off > 0 ? off : -off), cnt = 0;
    for (; pos >= 0 && pos < 32; pos += inc)
        if ((mask >> pos) & 1 && ++cnt == need) return (u32)pos;
    return ~0u;
}
}  // namespace

bool dec_bits(Dec& d) {
    Ins& in = d.in;
    const std::string& o = d.I.op;
    Ty t = d.ty(0);
    int w = Dec::slot(t);
    in.cls = Cls::Int;
    auto bind = [&](std::initializer_list<int> ws) {
        int k = 1;
        for (int x : ws) {
            in.o[k] = d.src(k, x);
            ++k;
        }
        in.o[0] = d.dst(0, w);
    };
    if (o == "and" || o == "or" || o == "xor" || o == "not") {
        if (t == Ty::Pred) {
            bool n1 = false, n2 = false;
            in.o[1] = d.pred_src(d.op(1), n1);
            if (o != "not") in.o[2] = d.pred_src(d.op(2), n2);
            in.sub = n1;
            in.sub2 = n2;
            in.o[0] = d.pred_dst(d.op(0));
            in.fn = o == "and"   ? pred_logic<0>
                    : o == "or"  ? pred_logic<1>
                    : o == "xor" ? pred_logic<2>
                                 : pred_logic<3>;
            return true;
        }
        if (o == "not") {
            bind({w});
            in.fn = w == 8            ? handler([](u64 a) { return ~a; })
                    : ty_size(t) == 2 ? handler([](u16 a) -> u16 { return (u16)~a; })
                                      : handler([](u32 a) { return ~a; });
            return true;
        }
        bind({w, w});
        if (o == "and")
            in.fn = w == 8 ? handler([](u64 a, u64 b) { return a & b; })
                           : handler([](u32 a, u32 b) { return a & b; });
        if (o == "or")
            in.fn = w == 8 ? handler([](u64 a, u64 b) { return a | b; })
                           : handler([](u32 a, u32 b) { return a | b; });
        if (o == "xor")
            in.fn = w == 8 ? handler([](u64 a, u64 b) { return a ^ b; })
                           : handler([](u32 a, u32 b) { return a ^ b; });
        return true;
    }
    if (o == "cnot") {
        bind({w});
        in.fn = w == 8            ? handler([](u64 a) -> u64 { return a == 0; })
                : ty_size(t) == 2 ? handler([](u16 a) -> u16 { return a == 0; })
                                  : handler([](u32 a) -> u32 { return a == 0; });
        return true;
    }
    if (o == "shl") {
        bind({w, 4});
        in.fn = w == 8 ? handler([](u64 a, u32 b) -> u64 { return b > 63 ? 0 : a << b; })
                : ty_size(t) == 2
                    ? handler([](u16 a, u32 b) -> u16 { return b > 15 ? 0 : (u16)(a << b); })
                    : handler([](u32 a, u32 b) -> u32 { return b > 31 ? 0 : a << b; });
        return true;
    }
    if (o == "shr") {
        bind({w, 4});
        if (is_signed(t))
            in.fn = w == 8 ? handler([](i64 a, u32 b) -> i64 { return a >> (b > 63 ? 63 : b); })
                    : ty_size(t) == 2
                        ? handler([](i16 a, u32 b) -> i16 { return (i16)(a >> (b > 15 ? 15 : b)); })
                        : handler([](i32 a, u32 b) -> i32 { return a >> (b > 31 ? 31 : b); });
        else
            in.fn = w == 8 ? handler([](u64 a, u32 b) -> u64 { return b > 63 ? 0 : a >> b; })
                    : ty_size(t) == 2
                        ? handler([](u16 a, u32 b) -> u16 { return b > 15 ? 0 : (u16)(a >> b); })
                        : handler([](u32 a, u32 b) -> u32 { return b > 31 ? 0 : a >> b; });
        return true;
    }
    if (o == "shf") {
        bind({4, 4, 4});
        bool l = d.has("l"), wrap = d.has("wrap");
        if (l)
            in.fn = wrap ? handler([](u32 a, u32 b, u32 c) -> u32 {
                return (u32)((((u64)b << 32 | a) << (c & 31)) >> 32);
            })
                         : handler([](u32 a, u32 b, u32 c) -> u32 {
                               c = c > 32 ? 32 : c;
                               return (u32)((u64)((((u128)b << 32 | a)) << c >> 32));
                           });
        else
            in.fn = wrap ? handler([](u32 a, u32 b, u32 c) -> u32 {
                return (u32)(((u64)b << 32 | a) >> (c & 31));
            })
                         : handler([](u32 a, u32 b, u32 c) -> u32 {
                               c = c > 32 ? 32 : c;
                               return (u32)(((u64)b << 32 | a) >> c);
                           });
        return true;
    }
    if (o == "lop3") {
        i64 lut;
        if (d.op(0).k == Opnd::Pair) {
            if (!d.immediate(d.op(4), lut)) d.fail("lut");
            for (int k = 1; k <= 3; ++k) in.o[k] = d.src(k, 4);
            in.o[0] = d.dst(d.op(0).sub[0], 4);
            in.o[4] = d.pred_dst(d.op(0).sub[1]);
            bool neg;
            in.o[5] = d.pred_src(d.op(5), neg);
            in.sub = d.has("or");
            in.sub2 = neg;
            in.fn = lop3_bool;
        } else {
            if (!d.immediate(d.op(4), lut)) d.fail("lut");
            bind({4, 4, 4});
            in.fn = lop3_op;
        }
        in.imm = lut;
        return true;
    }
    if (o == "prmt") {
        bind({4, 4, 4});
        in.fn = d.has("f4e")    ? prmt_fn<1>()
                : d.has("b4e")  ? prmt_fn<2>()
                : d.has("rc8")  ? prmt_fn<3>()
                : d.has("ecl")  ? prmt_fn<4>()
                : d.has("ecr")  ? prmt_fn<5>()
                : d.has("rc16") ? prmt_fn<6>()
                                : prmt_fn<0>();
        return true;
    }
    if (o == "bfe") {
        bind({w, 4, 4});
        in.fn = t == Ty::U32   ? handler([](u32 a, u32 b, u32 c) { return bfe<u32>(a, b, c); })
                : t == Ty::S32 ? handler([](i32 a, u32 b, u32 c) { return bfe<i32>(a, b, c); })
                : t == Ty::U64 ? handler([](u64 a, u32 b, u32 c) { return bfe<u64>(a, b, c); })
                               : handler([](i64 a, u32 b, u32 c) { return bfe<i64>(a, b, c); });
        return true;
    }
    if (o == "bfi") {
        bind({w, w, 4, 4});
        in.fn = w == 8 ? handler([](u64 a, u64 b, u32 c, u32 e) { return bfi<u64>(a, b, c, e); })
                       : handler([](u32 a, u32 b, u32 c, u32 e) { return bfi<u32>(a, b, c, e); });
        return true;
    }
    if (o == "brev") {
        bind({w});
        in.fn = w == 8 ? handler([](u64 a) { return brev(a); })
                       : handler([](u32 a) { return brev(a); });
        return true;
    }
    if (o == "popc" || o == "clz") {
        in.o[1] = d.src(1, w);
        in.o[0] = d.dst(0, 4);
        if (o == "popc")
            in.fn = w == 8 ? handler([](u64 a) -> u32 { return (u32)__builtin_popcountll(a); })
                           : handler([](u32 a) -> u32 { return (u32)__builtin_popcount(a); });
        else
            in.fn = w == 8 ? handler([](u64 a) -> u32 { return a ? (u32)__builtin_clzll(a) : 64; })
                           : handler([](u32 a) -> u32 { return a ? (u32)__builtin_clz(a) : 32; });
        return true;
    }
    if (o == "bfind") {
        in.o[1] = d.src(1, w);
        in.o[0] = d.dst(0, 4);
        bool s = d.has("shiftamt");
        switch (t) {
            case Ty::U32:
                in.fn = s ? handler([](u32 a) { return bfind(a, true); })
                          : handler([](u32 a) { return bfind(a, false); });
                break;
            case Ty::S32:
                in.fn = s ? handler([](i32 a) { return bfind(a, true); })
                          : handler([](i32 a) { return bfind(a, false); });
                break;
            case Ty::U64:
                in.fn = s ? handler([](u64 a) { return bfind(a, true); })
                          : handler([](u64 a) { return bfind(a, false); });
                break;
            case Ty::S64:
                in.fn = s ? handler([](i64 a) { return bfind(a, true); })
                          : handler([](i64 a) { return bfind(a, false); });
                break;
            default:
                return false;
        }
        return true;
    }
    if (o == "fns") {
        bind({4, 4, 4});
        in.fn = handler([](u32 a, u32 b, u32 c) { return fns(a, b, c); });
        return true;
    }
    if (o == "bmsk") {
        bind({4, 4});
        in.fn = d.has("wrap") ? handler([](u32 a, u32 b) -> u32 {
            a &= 31;
            b &= 31;
            return (u32)(((1ull << b) - 1) << a);
        })
                              : handler([](u32 a, u32 b) -> u32 {
                                    if (a > 31) return 0;
                                    u64 mk = b > 31 ? 0xffffffffull : (1ull << b) - 1;
                                    return (u32)(mk << a);
                                });
        return true;
    }
    if (o == "szext") {
        bind({4, 4});
        bool sg = t == Ty::S32, wr = d.has("wrap");
        (void)wr;
        in.fn = sg ? handler([](u32 a, u32 b) -> u32 {
            if (b > 31) return a;
            if (b == 0) return 0;
            return (u32)((i32)(a << (32 - b)) >> (32 - b));
        })
                   : handler([](u32 a, u32 b) -> u32 {
                         if (b > 31) return a;
                         return a & ((1u << b) - 1);
                     });
        return true;
    }
    return false;
}

}  // namespace ptxemu
