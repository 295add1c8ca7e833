// Instructions among the lanes of a warp: shuffles, votes, match, redux, elect.
#include <algorithm>
#include <cmath>

#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/lane.h"

namespace ptxemu {
namespace {

// Are all lanes named by the member masks here? If not the group waits for them. Lanes may name
// different sets (tiles of a warp).
bool together(Warp& w, const Ins& i, u32 m, u32 slot) {
    const u32* mk = w.reg<u32>(slot);
    u32 all = 0, bad = 0, split = 0;
    lanes(m, [&](int l) {
        all |= mk[l];
        if (!((mk[l] >> l) & 1)) bad |= 1u << l;
        lanes(mk[l] & m, [&](int k) {
            if (mk[k] != mk[l]) split |= 1u << l;
        });
    });
    if (all & w.live & ~m) return false;
    if (bad)
        report(Fault::WarpSync, &w, &i, __builtin_ctz(bad), 0, false,
               "lane not named in its own member mask");
    else if (split)
        report(Fault::WarpSync, &w, &i, __builtin_ctz(split), 0, false,
               "lanes of one member mask give different masks");
    return true;
}
// f(lanes with this mask, members) for each distinct mask
template <class F>
void each_set(Warp& w, u32 m, u32 slot, F&& f) {
    const u32* mk = w.reg<u32>(slot);
    while (m) {
        u32 v = mk[__builtin_ctz(m)], set = 0;
        lanes(m, [&](int l) {
            if (mk[l] == v) set |= 1u << l;
        });
        m &= ~set;
        f(set, set & v ? set & v : set);
    }
}

// sub: 0 up 1 down 2 bfly 3 idx; o: d a b c mask; o[5] predicate
Ctl shfl(Warp& w, const Ins& i, u32 m) {
    if (!together(w, i, m, i.o[4])) return WaitWarp;
    const u32* mk = w.reg<u32>(i.o[4]);
    u32 *d = w.reg<u32>(i.o[0]), *a = w.reg<u32>(i.o[1]), *b = w.reg<u32>(i.o[2]),
        *c = w.reg<u32>(i.o[3]);
    alignas(64) u32 v[32], r[32];
    memcpy(v, a, sizeof v);
    u32 preds = 0, bad_from = 0;
    for (int l = 0; l < 32; ++l) {
        u32 bv = b[l] & 31, cv = c[l] & 31, seg = (c[l] >> 8) & 31, ln = (u32)l;
        u32 max_lane = (ln & seg) | (cv & ~seg), min_lane = ln & seg;
        i32 j;
        bool p;
        switch (i.sub) {
            case 0:
                j = l - (i32)bv;
                p = j >= (i32)max_lane;
                break;
            case 1:
                j = l + (i32)bv;
                p = j <= (i32)max_lane;
                break;
            case 2:
                j = l ^ (i32)bv;
                p = j <= (i32)max_lane;
                break;
            default:
                j = (i32)(min_lane | (bv & ~seg));
                p = j <= (i32)max_lane;
                break;
        }
        if (!p) j = l;
        r[l] = v[j & 31];
        preds |= (u32)p << l;
        if (!(((m & mk[l]) >> (j & 31)) & 1)) bad_from |= 1u << l;
    }
    bad_from &= m;
    if (bad_from)
        report(Fault::WarpSync, &w, &i, __builtin_ctz(bad_from), 0, false,
               "shfl reads a lane that does not take part");
    if (m == ~0u)
        memcpy(d, r, sizeof r);
    else
        lanes(m, [&](int l) { d[l] = r[l]; });
    if (i.o[5]) {
        u32& p = w.pred(i.o[5]);
        p = (p & ~m) | (preds & m);
    }
    return Next;
}

// sub: 0 all 1 any 2 uni 3 ballot
Ctl vote(Warp& w, const Ins& i, u32 m_all) {
    if (i.o[4] && !together(w, i, m_all, i.o[4])) return WaitWarp;
    u32 src = w.pred(i.o[1]);
    if (i.sub2) src = ~src;
    auto one = [&](u32 m, u32 act) {
        u32 p = src & act;
        if (i.sub == 3) {
            lanes(m, [&](int l) { w.reg<u32>(i.o[0])[l] = p; });
            return;
        }
        bool r = i.sub == 0 ? p == act : i.sub == 1 ? p != 0 : p == 0 || p == act;
        u32& d = w.pred(i.o[0]);
        d = r ? d | m : d & ~m;
    };
    if (i.o[4])
        each_set(w, m_all, i.o[4], one);
    else
        one(m_all, m_all);
    return Next;
}
Ctl activemask(Warp& w, const Ins& i, u32 m) {
    lanes(m, [&](int l) { w.reg<u32>(i.o[0])[l] = m; });
    return Next;
}
template <class T, bool All>
Ctl match(Warp& w, const Ins& i, u32 m_all) {
    if (!together(w, i, m_all, i.o[4])) return WaitWarp;
    T v[32];
    memcpy(v, w.reg<T>(i.o[1]), sizeof v);
    each_set(w, m_all, i.o[4], [&](u32 m, u32 act) {
        if constexpr (All) {
            bool same = true;
            lanes(act, [&](int l) { same &= v[l] == v[__builtin_ctz(act)]; });
            lanes(m, [&](int l) { w.reg<u32>(i.o[0])[l] = same ? act : 0; });
            if (i.o[5]) {
                u32& p = w.pred(i.o[5]);
                p = same ? p | m : p & ~m;
            }
        } else {
            lanes(m, [&](int l) {
                u32 r = 0;
                lanes(act, [&](int k) {
                    if (v[k] == v[l]) r |= 1u << k;
                });
                w.reg<u32>(i.o[0])[l] = r;
            });
        }
    });
    return Next;
}
// sub: 0 add 1 min 2 max 3 and 4 or 5 xor; sub2: 0 unsigned 1 signed 2 float; sub3: abs, sub4: NaN
Ctl redux(Warp& w, const Ins& i, u32 m_all) {
    if (!together(w, i, m_all, i.o[4])) return WaitWarp;
    alignas(64) u32 a[32];
    memcpy(a, w.reg<u32>(i.o[1]), sizeof a);
    each_set(w, m_all, i.o[4], [&](u32 m, u32 act) {
        u32 r = a[__builtin_ctz(act)];
        auto f = [](u32 x) { return std::bit_cast<float>(x); };
        if (i.sub2 == 2) {
            bool first = true, nan = false;
            float v = NAN;
            lanes(act, [&](int l) {
                float x = i.sub3 ? std::fabs(f(a[l])) : f(a[l]);
                if (x != x) {
                    nan = true;
                    return;
                }
                if (first)
                    v = x;
                else
                    v = i.sub == 1 ? std::min(v, x) : std::max(v, x);
                first = false;
            });
            r = (nan && i.sub4) || v != v ? 0x7fffffffu : std::bit_cast<u32>(v);
        } else {
            lanes(act & (act - 1), [&](int l) {
                u32 x = a[l];
                switch (i.sub) {
                    case 0:
                        r += x;
                        break;
                    case 1:
                        r = i.sub2 ? (u32)std::min((i32)r, (i32)x) : std::min(r, x);
                        break;
                    case 2:
                        r = i.sub2 ? (u32)std::max((i32)r, (i32)x) : std::max(r, x);
                        break;
                    case 3:
                        r &= x;
                        break;
                    case 4:
                        r |= x;
                        break;
                    default:
                        r ^= x;
                }
            });
        }
        lanes(m, [&](int l) { w.reg<u32>(i.o[0])[l] = r; });
    });
    return Next;
}
Ctl elect(Warp& w, const Ins& i, u32 m_all) {
    if (!together(w, i, m_all, i.o[4])) return WaitWarp;
    each_set(w, m_all, i.o[4], [&](u32 m, u32 act) {
        u32 leader = (u32)__builtin_ctz(act);
        if (i.o[0]) lanes(m, [&](int l) { w.reg<u32>(i.o[0])[l] = leader; });
        u32& p = w.pred(i.o[5]);
        p = (p & ~m) | (1u << leader);
    });
    return Next;
}
}  // namespace

bool dec_warp(Dec& d) {
    Ins& in = d.in;
    const std::string& o = d.I.op;
    in.cls = Cls::Warp;
    auto pair_dst = [&](bool pred_only = false) {
        const Opnd& x = d.op(0);
        if (x.k == Opnd::Pair) {
            if (!pred_only) in.o[0] = d.dst(x.sub[0], 4);
            in.o[5] = d.pred_dst(x.sub[1]);
        } else
            in.o[0] = d.dst(x, 4);
    };
    if (o == "shfl") {
        in.fn = shfl;
        in.sub = d.has("up") ? 0 : d.has("down") ? 1 : d.has("bfly") ? 2 : 3;
        pair_dst();
        for (int k = 1; k <= 3; ++k) in.o[k] = d.src(k, 4);
        in.o[4] = d.nops() > 4 ? d.src(4, 4) : d.constant(~0u, 4);
        return true;
    }
    if (o == "vote") {
        in.fn = vote;
        in.sub = d.has("all") ? 0 : d.has("any") ? 1 : d.has("uni") ? 2 : 3;
        bool neg;
        in.o[1] = d.pred_src(d.op(1), neg);
        in.sub2 = neg;
        if (d.nops() > 2) in.o[4] = d.src(2, 4);
        in.o[0] = in.sub == 3 ? d.dst(0, 4) : d.pred_dst(d.op(0));
        return true;
    }
    if (o == "activemask") {
        in.fn = activemask;
        in.o[0] = d.dst(0, 4);
        return true;
    }
    if (o == "match") {
        int w = Dec::slot(d.last());
        bool all = d.has("all");
        in.fn = w == 8 ? (all ? match<u64, true> : match<u64, false>)
                       : (all ? match<u32, true> : match<u32, false>);
        pair_dst();
        in.o[1] = d.src(1, w);
        in.o[4] = d.src(2, 4);
        return true;
    }
    if (o == "redux") {
        in.fn = redux;
        in.sub = d.has("add")   ? 0
                 : d.has("min") ? 1
                 : d.has("max") ? 2
                 : d.has("and") ? 3
                 : d.has("or")  ? 4
                                : 5;
        in.sub2 = d.last() == Ty::F32 ? 2 : is_signed(d.last()) ? 1 : 0;
        in.sub3 = d.has("abs");
        in.sub4 = d.has("NaN");
        in.o[0] = d.dst(0, 4);
        in.o[1] = d.src(1, 4);
        in.o[4] = d.src(2, 4);
        return true;
    }
    if (o == "elect") {
        in.fn = elect;
        pair_dst();
        in.o[4] = d.src(1, 4);
        return true;
    }
    return false;
}

}  // namespace ptxemu
