// Loads and stores.
#include "kernels/ptxemu/interpreter/access.h"
#include "kernels/ptxemu/interpreter/lane.h"

namespace ptxemu {

void shared_oob(Warp& w, const Ins& i, int lane, u64 a, u32 size) {
    report(Fault::SharedOob, &w, &i, lane, a, true,
           "shared access of " + std::to_string(size) + " bytes; the block has [" +
               std::to_string(kSharedBase) + ", " +
               std::to_string(kSharedBase + w.blk->L->shared_bytes) + ")");
    abort_launch(700);
}
void misaligned(Warp& w, const Ins& i, int lane, u64 a, u32 size) {
    report(Fault::Misaligned, &w, &i, lane, a, true,
           "address is not a multiple of " + std::to_string(size));
    abort_launch(716);
}
void local_oob(Warp& w, const Ins& i, int lane, u64 a, u32 size) {
    report(Fault::Local, &w, &i, lane, a, true,
           "local access of " + std::to_string(size) + " bytes outside the thread's " +
               std::to_string(w.blk->L->prog->local_bytes));
    abort_launch(700);
}
void param_oob(Warp& w, const Ins& i, int lane, u64 a, u32 size) {
    report(Fault::Other, &w, &i, lane, a, true,
           "parameter access of " + std::to_string(size) + " bytes outside the parameters");
    abort_launch(700);
}

void count_access(Warp& w, const Ins&, u32 m, const u64* A, u32 bytes, bool load, Space s) {
    Stats* st = w.wk->stats;
    if (!st || !m) return;
    u32 sh_mask = 0, gl_mask = 0, sh[32];
    lanes(m, [&](int l) {
        if (s == SpShared || A[l] - kSharedWindow < kWindowSize) {
            sh_mask |= 1u << l;
            sh[l] = (u32)A[l];
        } else if (s == SpGlobal || (s == SpGeneric && A[l] - kLocalWindow >= kWindowSize))
            gl_mask |= 1u << l;
    });
    if (sh_mask) st->shared(sh, sh_mask, bytes);
    if (gl_mask) st->global(load, A, gl_mask, bytes);
}

u8 order_of(Dec& d) {
    bool acquire = d.has("acquire") || d.has("acq_rel"),
         release = d.has("release") || d.has("acq_rel");
    bool strong = acquire || release || d.has("volatile") || d.has("relaxed") || d.has("mmio");
    return (u8)((strong ? kStrong : 0) | (acquire ? kAcquire : 0) | (release ? kRelease : 0));
}

void note_read(Warp& w, const Ins& i, const u64* addresses, u32 mask, u32 bytes) {
    global_read(w, i, addresses, mask, bytes);
    if (i.order & kStrong) lanes(mask, [&](int l) { order_read(w, addresses[l], i.order); });
}

Space address_of(Dec& d, const Opnd& o, int slot) {
    Ins& in = d.in;
    const Opnd& base = o.k == Opnd::Addr ? o.sub[0] : o;
    in.imm = o.k == Opnd::Addr ? (i64)o.bits : 0;
    if (base.k == Opnd::Reg && d.reg_width(base) == 4) {
        in.sub2 = 1;
        in.o[slot] = d.src(base, 4);
    } else
        in.o[slot] = d.src(base, 8);
    if (d.has("global")) return SpGlobal;
    if (d.has("shared") || d.has("shared::cta") || d.has("shared::cluster")) return SpShared;
    if (d.has("local")) return SpLocal;
    if (d.has("const")) return SpConst;
    if (d.has("param") || d.has("param::entry") || d.has("param::func")) {
        if (base.k == Opnd::Sym && d.F.local_off.count(base.name)) return SpParamFn;
        return d.F.f->entry ? SpParam : SpParamFn;
    }
    return SpGeneric;
}

namespace {

template <Space S, int ES, int DW, bool Sg>
Ctl load(Warp& w, const Ins& i, u32 m) {
    alignas(64) u64 A[32];
    addresses(w, i, 1, A);
    const u32 n = i.n, bytes = ES * n;
    if (w.wk->stats) count_access(w, i, m, A, bytes, true, S);
    const u32* dsts = n > 1 ? i.ext.data() : i.o;
    Shadow* sh = w.blk->shadow.get();
    constexpr bool global_space = S == SpGlobal || S == SpGeneric;
    u32 rest = m;
    while (rest) {
        int l = __builtin_ctz(rest);
        rest &= rest - 1;
        u64 a = A[l];
        if (S != SpParam && S != SpParamFn && (a & (bytes - 1))) misaligned(w, i, l, a, bytes);
        Place p = place<S>(w, i, l, a, bytes);
        if ((S == SpShared || S == SpGeneric) && p.shared && sh) sh->read(w, i, l, p.off, bytes);
        if ((S == SpGlobal || S == SpGeneric) && g_init && !p.shared) check_init(w, i, l, a, bytes);
        for (u32 k = 0; k < n; ++k) {
            u32 off = dsts[k];
            if (!off) continue;
            if constexpr (DW == 16)
                memcpy(w.R + off + (size_t)l * 16, p.p + k * 16, 16);
            else {
                using U = std::conditional_t<
                    ES == 1, u8,
                    std::conditional_t<ES == 2, u16, std::conditional_t<ES == 4, u32, u64>>>;
                U v;
                memcpy(&v, p.p + k * ES, ES < 8 ? ES : 8);
                using D = std::conditional_t<DW == 8, u64, u32>;
                D r;
                if constexpr (Sg)
                    r = (D)(std::make_signed_t<D>)(std::make_signed_t<U>)v;
                else
                    r = (D)v;
                w.reg<D>(off)[l] = r;
            }
        }
    }
    if (global_space && races(w)) note_read(w, i, A, m, bytes);
    return Next;
}

template <Space S, int ES>
Ctl store(Warp& w, const Ins& i, u32 m) {
    alignas(64) u64 A[32];
    addresses(w, i, 1, A);
    const u32 n = i.n, bytes = ES * n;
    if (w.wk->stats) count_access(w, i, m, A, bytes, false, S);
    const u32* srcs = n > 1 ? i.ext.data() : i.o;
    constexpr bool global_space = S == SpGlobal || S == SpGeneric;
    using Value = u8[ES * 8];
    auto value = [&](int l, Value& v) {
        for (u32 k = 0; k < n; ++k) {
            if constexpr (ES == 16)
                memcpy(v + k * 16, w.R + srcs[k] + (size_t)l * 16, 16);
            else if constexpr (ES == 8)
                memcpy(v + k * 8, &w.reg<u64>(srcs[k])[l], 8);
            else
                memcpy(v + k * ES, &w.reg<u32>(srcs[k])[l], ES);
        }
    };
    Shadow* sh = w.blk->shadow.get();
    Place at[32];
    lanes(m, [&](int l) {
        u64 a = A[l];
        if (S != SpParamFn && (a & (bytes - 1))) misaligned(w, i, l, a, bytes);
        at[l] = place<S>(w, i, l, a, bytes);
    });
    if (global_space && races(w))
        note_write(w, i, A, m, bytes, [&](u32 together) {
            bool same = true;
            Value v;
            lanes(together, [&](int l) {
                value(l, v);
                same &= memcmp(at[l].p, v, bytes) == 0;
            });
            return same;
        });
    lanes(m, [&](int l) {
        Value v;
        value(l, v);
        if ((S == SpShared || S == SpGeneric) && at[l].shared && sh)
            sh->write(w, i, l, at[l].off, bytes, at[l].p, v);
        if (global_space && g_init && !at[l].shared) set_init(A[l], bytes);
        memcpy(at[l].p, v, bytes);
    });
    return Next;
}

// kernel parameters at a constant place are the same for all lanes
template <int ES, int DW, bool Sg>
Ctl load_param_const(Warp& w, const Ins& i, u32 m) {
    const u32 n = i.n;
    const u32* dsts = n > 1 ? i.ext.data() : i.o;
    u64 at = w.reg<u64>(i.o[1])[0] + (u64)i.imm;
    const u8* p = param_at(w, i, __builtin_ctz(m), at, ES * n);
    for (u32 k = 0; k < n; ++k) {
        using U = std::conditional_t<
            ES == 1, u8, std::conditional_t<ES == 2, u16, std::conditional_t<ES == 4, u32, u64>>>;
        U v;
        memcpy(&v, p + k * ES, ES);
        using D = std::conditional_t<DW == 8, u64, u32>;
        D r;
        if constexpr (Sg)
            r = (D)(std::make_signed_t<D>)(std::make_signed_t<U>)v;
        else
            r = (D)v;
        D* d = w.reg<D>(dsts[k]);
        if (m == ~0u)
            for (int l = 0; l < 32; ++l) d[l] = r;
        else
            lanes(m, [&](int l) { d[l] = r; });
    }
    return Next;
}

template <Space S>
Fn load_fn(int es, int dw, bool sg) {
    if (es == 16) return &load<S, 16, 16, false>;
    if (es == 8) return &load<S, 8, 8, false>;
    if (dw == 8) switch (es) {
            case 1:
                return sg ? &load<S, 1, 8, true> : &load<S, 1, 8, false>;
            case 2:
                return sg ? &load<S, 2, 8, true> : &load<S, 2, 8, false>;
            default:
                return sg ? &load<S, 4, 8, true> : &load<S, 4, 8, false>;
        }
    switch (es) {
        case 1:
            return sg ? &load<S, 1, 4, true> : &load<S, 1, 4, false>;
        case 2:
            return sg ? &load<S, 2, 4, true> : &load<S, 2, 4, false>;
        default:
            return &load<S, 4, 4, false>;
    }
}
template <Space S>
Fn store_fn(int es) {
    switch (es) {
        case 1:
            return &store<S, 1>;
        case 2:
            return &store<S, 2>;
        case 4:
            return &store<S, 4>;
        case 8:
            return &store<S, 8>;
        default:
            return &store<S, 16>;
    }
}
Fn param_const_fn(int es, int dw, bool sg) {
    if (es == 8) return &load_param_const<8, 8, false>;
    if (dw == 8)
        return es == 4   ? (sg ? &load_param_const<4, 8, true> : &load_param_const<4, 8, false>)
               : es == 2 ? (sg ? &load_param_const<2, 8, true> : &load_param_const<2, 8, false>)
                         : (sg ? &load_param_const<1, 8, true> : &load_param_const<1, 8, false>);
    return es == 4   ? &load_param_const<4, 4, false>
           : es == 2 ? (sg ? &load_param_const<2, 4, true> : &load_param_const<2, 4, false>)
                     : (sg ? &load_param_const<1, 4, true> : &load_param_const<1, 4, false>);
}
template <class F>
Fn by_space(Space s, F&& f) {
    switch (s) {
        case SpGlobal:
            return f(std::integral_constant<Space, SpGlobal>{});
        case SpConst:
            return f(std::integral_constant<Space, SpConst>{});
        case SpShared:
            return f(std::integral_constant<Space, SpShared>{});
        case SpLocal:
            return f(std::integral_constant<Space, SpLocal>{});
        case SpParam:
            return f(std::integral_constant<Space, SpParam>{});
        case SpParamFn:
            return f(std::integral_constant<Space, SpParamFn>{});
        default:
            return f(std::integral_constant<Space, SpGeneric>{});
    }
}

// base of the address fixed at decode: a parameter's own name
bool fixed_param(Dec& d, const Opnd& a) {
    return (a.k == Opnd::Addr ? a.sub[0] : a).k == Opnd::Sym && d.F.f->entry;
}

Ctl nop(Warp&, const Ins&, u32) { return Next; }
}  // namespace

bool dec_mem(Dec& d) {
    Ins& in = d.in;
    const std::string& o = d.I.op;
    if (o == "prefetch" || o == "prefetchu" || o == "applypriority" || o == "discard") {
        in.fn = nop;
        in.cls = Cls::LdGlobal;
        return true;
    }
    if (o == "createpolicy") {
        in.fn = handler([](u64) -> u64 { return 0x12f0000000000000ull; });
        in.o[1] = d.constant(0, 8);
        in.o[0] = d.dst(0, 8);
        in.cls = Cls::Move;
        return true;
    }
    if (o == "mapa") {
        int w = Dec::slot(d.last());
        in.fn = w == 8 ? handler([](u64 a) { return a; }) : handler([](u32 a) { return a; });
        in.o[1] = d.src(1, w);
        in.o[0] = d.dst(0, w);
        return true;
    }
    if (o == "getctarank") {
        in.fn = handler([](u32) -> u32 { return 0; });
        in.o[1] = d.constant(0, 4);
        in.o[0] = d.dst(0, 4);
        return true;
    }
    bool ld = o == "ld" || o == "ldu", st = o == "st";
    if (!ld && !st) return false;
    if (d.has("async") || d.has("bulk")) return false;
    Ty t = d.last();
    if (t == Ty::None) return false;
    int es = ty_size(t);
    in.n = (u8)(d.has("v2") ? 2 : d.has("v4") ? 4 : d.has("v8") ? 8 : 1);
    in.msize = (u8)es;
    in.order = order_of(d);
    const Opnd& addr = d.op(ld ? 1 : 0);
    const Opnd& val = d.op(ld ? 0 : 1);
    Space s = address_of(d, addr, 1);
    in.space = s;
    in.cls = s == SpShared                                    ? (ld ? Cls::LdShared : Cls::StShared)
             : s == SpLocal                                   ? Cls::Local
             : s == SpParam || s == SpParamFn || s == SpConst ? Cls::Param
             : ld                                             ? Cls::LdGlobal
                                                              : Cls::StGlobal;
    int slot = Dec::slot(t);
    if (ld) {
        auto one = [&](const Opnd& v) {
            int rw = d.reg_width(v);
            if (rw == 8 && slot == 4) return d.F.reg_off[v.reg];
            return d.dst(v, slot);
        };
        int dw = slot;
        if (in.n > 1 || val.k == Opnd::Vec) {
            for (auto& v : val.sub) {
                in.ext.push_back(one(v));
                if (d.reg_width(v) == 8) dw = 8;
            }
            if (in.n == 1) in.o[0] = in.ext[0];
        } else {
            in.o[0] = one(val);
            if (d.reg_width(val) == 8) dw = 8;
        }
        bool sg = is_signed(t);
        if (s == SpParam && fixed_param(d, addr) && es <= 8)
            in.fn = param_const_fn(es, dw, sg);
        else
            in.fn = by_space(s, [&](auto c) { return load_fn<decltype(c)::value>(es, dw, sg); });
    } else {
        if (in.n > 1 || val.k == Opnd::Vec) {
            for (auto& v : val.sub) in.ext.push_back(d.src(v, slot));
            if (in.n == 1) in.o[0] = in.ext[0];
        } else
            in.o[0] = d.src(val, slot);
        if (s == SpParam || s == SpConst) return false;
        in.fn = by_space(s, [&](auto c) { return store_fn<decltype(c)::value>(es); });
    }
    return true;
}

}  // namespace ptxemu
