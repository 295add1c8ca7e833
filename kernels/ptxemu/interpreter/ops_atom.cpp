// Atomics and reductions.
#include <algorithm>
#include <mutex>

#include "kernels/ptxemu/interpreter/access.h"
#include "kernels/ptxemu/interpreter/lane.h"
#include "kernels/ptxemu/interpreter/smallfloat.h"

namespace ptxemu {
namespace {

std::mutex stripes[64];

template <class H>
u16 add_half(u16 a, u16 b) {
    if constexpr (std::is_same_v<H, f16>)
        return to_h(to_f(f16{a}) + to_f(f16{b})).v;
    else
        return to_b(to_f(bf16{a}) + to_f(bf16{b})).v;
}
template <class H>
u16 min_max_half(u16 a, u16 b, bool mx) {
    float x, y;
    if constexpr (std::is_same_v<H, f16>) {
        x = to_f(f16{a});
        y = to_f(f16{b});
    } else {
        x = to_f(bf16{a});
        y = to_f(bf16{b});
    }
    if (x != x) return b;
    if (y != y) return a;
    return (mx ? x > y : x < y) ? a : b;
}

enum AOp : u8 { AAdd, AMin, AMax, AInc, ADec, AAnd, AOr, AXor, AExch, ACas };

template <class T>
u64 arith(AOp op, u64 o, u64 a) {
    T x = (T)o, y = (T)a;
    switch (op) {
        case AAdd:
            return (u64)(std::make_unsigned_t<T>)((u64)x + (u64)y);
        case AMin:
            return (u64)(std::make_unsigned_t<T>)(x < y ? x : y);
        default:
            return (u64)(std::make_unsigned_t<T>)(x > y ? x : y);
    }
}

u64 combine(AOp op, Ty t, u64 o, u64 a, u64 c) {
    switch (op) {
        case AExch:
            return a;
        case ACas: {
            u64 k = ty_size(t) == 2 ? 0xffff : ty_size(t) == 4 ? 0xffffffff : ~0ull;
            return (o & k) == (a & k) ? c : o;
        }
        case AAnd:
            return o & a;
        case AOr:
            return o | a;
        case AXor:
            return o ^ a;
        case AInc:
            return (u32)o >= (u32)a ? 0 : o + 1;
        case ADec:
            return (u32)o == 0 || (u32)o > (u32)a ? a : o - 1;
        default:
            break;
    }
    auto both = [&](auto f) {
        return (u64)f((u16)o, (u16)a) | (u64)f((u16)(o >> 16), (u16)(a >> 16)) << 16;
    };
    bool mx = op == AMax;
    switch (t) {
        case Ty::U32:
        case Ty::B32:
            return arith<u32>(op, o, a);
        case Ty::S32:
            return arith<i32>(op, o, a);
        case Ty::U64:
        case Ty::B64:
            return arith<u64>(op, o, a);
        case Ty::S64:
            return arith<i64>(op, o, a);
        case Ty::F32: {
            float x = std::bit_cast<float>((u32)o), y = std::bit_cast<float>((u32)a);
            return std::bit_cast<u32>(op == AAdd   ? canon(x + y)
                                      : op == AMin ? (x != x   ? y
                                                      : y != y ? x
                                                               : std::min(x, y))
                                                   : (x != x   ? y
                                                      : y != y ? x
                                                               : std::max(x, y)));
        }
        case Ty::F64:
            return std::bit_cast<u64>(std::bit_cast<double>(o) + std::bit_cast<double>(a));
        case Ty::F16:
            return op == AAdd ? add_half<f16>((u16)o, (u16)a)
                              : min_max_half<f16>((u16)o, (u16)a, mx);
        case Ty::BF16:
            return op == AAdd ? add_half<bf16>((u16)o, (u16)a)
                              : min_max_half<bf16>((u16)o, (u16)a, mx);
        case Ty::F16x2:
            return op == AAdd ? both(add_half<f16>)
                              : both([&](u16 x, u16 y) { return min_max_half<f16>(x, y, mx); });
        case Ty::BF16x2:
            return op == AAdd ? both(add_half<bf16>)
                              : both([&](u16 x, u16 y) { return min_max_half<bf16>(x, y, mx); });
        default:
            return o;
    }
}

// The check for races: an atomic sees what was released to its address, and releases what its
// warp's fences cover.
void note_atomic(Warp& w, const Ins& i, const u64* addresses, int l, u32 bytes, bool returns) {
    if (!races(w)) return;
    if (returns) order_read(w, addresses[l], i.order);
    u32 clock = order_write(w, addresses[l], i.order, true);
    global_write(w, i, addresses, 1u << l, bytes, clock, {});
}

// o: 1 address, 2.. ; ext: n dsts then n a then n c; sub op, sub3 type, sub4: has destination
Ctl atom(Warp& w, const Ins& i, u32 m) {
    u64 A[32];
    addresses(w, i, 1, A);
    const u32 n = i.n, es = i.msize, bytes = es * n;
    Ty t = (Ty)i.sub3;
    AOp op = (AOp)i.sub;
    if (w.wk->stats) count_access(w, i, m, A, bytes, false, (Space)i.space);
    bool lock = opt().threads > 1;
    lanes(m, [&](int l) {
        if (A[l] & (bytes - 1)) misaligned(w, i, l, A[l], bytes);
        Place p = i.space == SpShared   ? place<SpShared>(w, i, l, A[l], bytes)
                  : i.space == SpGlobal ? place<SpGlobal>(w, i, l, A[l], bytes)
                                        : place<SpGeneric>(w, i, l, A[l], bytes);
        if (p.shared && w.blk->shadow) w.blk->shadow->atomic(w, i, l, p.off, bytes);
        if (g_init && !p.shared) {
            check_init(w, i, l, A[l], bytes);
            set_init(A[l], bytes);
        }
        std::unique_lock<std::mutex> g;
        if (lock && !p.shared) g = std::unique_lock(stripes[((u64)p.p >> 4) & 63]);
        if (!p.shared) note_atomic(w, i, A, l, bytes, i.sub4);
        for (u32 k = 0; k < n; ++k) {
            auto val = [&](u32 j) -> u64 {
                u32 off = i.ext[j * n + k];
                return es == 8 ? w.reg<u64>(off)[l] : w.reg<u32>(off)[l];
            };
            u64 old = 0;
            memcpy(&old, p.p + k * es, es);
            u64 r = combine(op, t, old, val(1), op == ACas ? val(2) : 0);
            memcpy(p.p + k * es, &r, es);
            u32 d = i.ext[k];
            if (i.sub4 && d) {
                if (es == 8)
                    w.reg<u64>(d)[l] = old;
                else
                    w.reg<u32>(d)[l] = (u32)old;
            }
        }
    });
    return Next;
}
Ctl atom128(Warp& w, const Ins& i, u32 m) {
    u64 A[32];
    addresses(w, i, 1, A);
    lanes(m, [&](int l) {
        if (A[l] & 15) misaligned(w, i, l, A[l], 16);
        Place p = i.space == SpShared   ? place<SpShared>(w, i, l, A[l], 16)
                  : i.space == SpGlobal ? place<SpGlobal>(w, i, l, A[l], 16)
                                        : place<SpGeneric>(w, i, l, A[l], 16);
        if (p.shared && w.blk->shadow) w.blk->shadow->atomic(w, i, l, p.off, 16);
        std::lock_guard g(stripes[((u64)p.p >> 4) & 63]);
        if (!p.shared) note_atomic(w, i, A, l, 16, true);
        u128 old, a = w.reg<u128>(i.ext[1])[l];
        memcpy(&old, p.p, 16);
        u128 r = i.sub == ACas ? (old == a ? w.reg<u128>(i.ext[2])[l] : old) : a;
        memcpy(p.p, &r, 16);
        if (i.ext[0]) w.reg<u128>(i.ext[0])[l] = old;
    });
    return Next;
}
}  // namespace

bool dec_atom(Dec& d) {
    Ins& in = d.in;
    bool at = d.I.op == "atom", red = d.I.op == "red";
    if ((!at && !red) || d.has("async") || d.has("bulk")) return false;
    in.cls = Cls::Atomic;
    in.order = order_of(d) | kStrong;
    static const std::pair<const char*, AOp> names[] = {
        {"add", AAdd}, {"min", AMin}, {"max", AMax}, {"inc", AInc},   {"dec", ADec},
        {"and", AAnd}, {"or", AOr},   {"xor", AXor}, {"exch", AExch}, {"cas", ACas}};
    bool found = false;
    for (auto& [n, o] : names)
        if (d.has(n)) {
            in.sub = o;
            found = true;
        }
    if (!found) return false;
    Ty t = d.last();
    in.sub3 = (u8)t;
    in.msize = (u8)ty_size(t);
    in.n = (u8)(d.has("v2") ? 2 : d.has("v4") ? 4 : d.has("v8") ? 8 : 1);
    in.sub4 = at;
    in.space = address_of(d, d.op(at ? 1 : 0), 1);
    int slot = Dec::slot(t), k = at ? 2 : 1;
    auto push = [&](const Opnd& o, bool dst) {
        if (o.k == Opnd::Vec)
            for (auto& s : o.sub) in.ext.push_back(dst ? d.dst(s, slot) : d.src(s, slot));
        else
            in.ext.push_back(dst ? d.dst(o, slot) : d.src(o, slot));
    };
    if (at)
        push(d.op(0), true);
    else
        for (u32 j = 0; j < in.n; ++j) in.ext.push_back(0);
    push(d.op(k), false);
    if (in.sub == ACas) push(d.op(k + 1), false);
    in.fn = slot == 16 ? atom128 : atom;
    return true;
}

}  // namespace ptxemu
