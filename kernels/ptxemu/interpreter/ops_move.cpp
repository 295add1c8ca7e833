// mov, cvta, isspacep.
#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/lane.h"

namespace ptxemu {
namespace {

Ctl mov128(Warp& w, const Ins& i, u32 m) {
    u128 *d = w.reg<u128>(i.o[0]), *a = w.reg<u128>(i.o[1]);
    lanes(m, [&](int l) { d[l] = a[l]; });
    return Next;
}
Ctl mov_pred(Warp& w, const Ins& i, u32 m) {
    u32 v = w.pred(i.o[1]);
    if (i.sub) v = ~v;
    u32& d = w.pred(i.o[0]);
    d = (d & ~m) | (v & m);
    return Next;
}
// mov between a vector of parts and one wide register; sub: bytes of a part, sub2 1: pack
Ctl mov_vec(Warp& w, const Ins& i, u32 m) {
    u32 n = (u32)i.ext.size();
    auto part = [&](u32 k, int l) -> u64 {
        return i.sub == 8 ? w.reg<u64>(i.ext[k])[l] : w.reg<u32>(i.ext[k])[l];
    };
    lanes(m, [&](int l) {
        u8 buf[16] = {};
        if (i.sub2) {
            for (u32 k = 0; k < n; ++k) {
                u64 v = part(k, l);
                memcpy(buf + k * i.sub, &v, i.sub);
            }
            memcpy(w.R + i.o[0] + (size_t)l * i.sub3, buf, i.sub3);
        } else {
            memcpy(buf, w.R + i.o[0] + (size_t)l * i.sub3, i.sub3);
            for (u32 k = 0; k < n; ++k) {
                u64 v = 0;
                memcpy(&v, buf + k * i.sub, i.sub);
                if (!i.ext[k]) continue;
                if (i.sub == 8)
                    w.reg<u64>(i.ext[k])[l] = v;
                else
                    w.reg<u32>(i.ext[k])[l] = (u32)v;
            }
        }
    });
    return Next;
}

bool dec_mov(Dec& d) {
    Ins& in = d.in;
    in.cls = Cls::Move;
    Ty t = d.last();
    if (t == Ty::Pred) {
        bool neg;
        in.fn = mov_pred;
        in.o[1] = d.pred_src(d.op(1), neg);
        in.sub = neg;
        in.o[0] = d.pred_dst(d.op(0));
        return true;
    }
    bool pack = d.op(1).k == Opnd::Vec, unpack = d.op(0).k == Opnd::Vec;
    if (pack || unpack) {
        const Opnd& v = d.op(pack ? 1 : 0);
        int total = ty_size(t), part = total / (int)v.sub.size(), ps = part <= 4 ? 4 : part;
        in.fn = mov_vec;
        in.sub = (u8)part;
        in.sub2 = pack;
        in.sub3 = (u8)(total <= 4 ? 4 : total);
        for (auto& o : v.sub) in.ext.push_back(pack ? d.src(o, ps) : d.dst(o, ps));
        in.o[0] = pack ? d.dst(0, in.sub3) : d.src(1, in.sub3);
        return true;
    }
    int w = Dec::slot(t);
    in.o[1] = d.src(1, w);
    in.o[0] = d.dst(0, w);
    in.fn = w == 16  ? mov128
            : w == 8 ? handler([](u64 a) { return a; })
                     : handler([](u32 a) { return a; });
    return true;
}

bool dec_cvta(Dec& d) {
    Ins& in = d.in;
    in.cls = Cls::Move;
    int w = Dec::slot(d.last());
    in.o[1] = d.src(1, w);
    in.o[0] = d.dst(0, w);
    bool to = d.has("to");
    if (w != 8) {
        in.fn = handler([](u32 a) { return a; });
        return true;
    }
    if (d.has("shared") || d.has("shared::cta") || d.has("shared::cluster"))
        in.fn = to ? handler([](u64 a) { return a - kSharedWindow; })
                   : handler([](u64 a) { return a + kSharedWindow; });
    else if (d.has("local"))
        in.fn = to ? handler([](u64 a) { return a - kLocalWindow; })
                   : handler([](u64 a) { return a + kLocalWindow; });
    else if (d.has("param") || d.has("param::entry"))
        in.fn = to ? handler([](u64 a) { return a - kParamWindow; })
                   : handler([](u64 a) { return a + kParamWindow; });
    else
        in.fn = handler([](u64 a) { return a; });
    return true;
}
Ctl isspacep(Warp& w, const Ins& i, u32 m) {
    u64* a = w.reg<u64>(i.o[1]);
    u32 r = 0;
    lanes(m, [&](int l) {
        bool sh = a[l] - kSharedWindow < kWindowSize, lo = a[l] - kLocalWindow < kWindowSize,
             pa = a[l] - kParamWindow < kWindowSize;
        bool v = i.sub == 0   ? !sh && !lo && !pa
                 : i.sub == 1 ? sh
                 : i.sub == 2 ? lo
                 : i.sub == 3 ? pa
                              : false;
        r |= (u32)v << l;
    });
    u32& p = w.pred(i.o[0]);
    p = (p & ~m) | r;
    return Next;
}
}  // namespace

bool dec_move(Dec& d) {
    Ins& in = d.in;
    if (d.I.op == "mov") return dec_mov(d);
    if (d.I.op == "cvta") return dec_cvta(d);
    if (d.I.op == "isspacep") {
        in.fn = isspacep;
        in.sub = d.has("global")                                                       ? 0
                 : d.has("shared") || d.has("shared::cta") || d.has("shared::cluster") ? 1
                 : d.has("local")                                                      ? 2
                 : d.has("param") || d.has("param::entry")                             ? 3
                                                                                       : 4;
        in.o[1] = d.src(1, 8);
        in.o[0] = d.pred_dst(d.op(0));
        in.cls = Cls::Move;
        return true;
    }
    return false;
}

}  // namespace ptxemu
