// Branches, exits, barriers of the block and of the warp.
#include <algorithm>

#include "kernels/ptxemu/interpreter/block_order.h"
#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/lane.h"
#include "kernels/ptxemu/interpreter/memory.h"

namespace ptxemu {
namespace {

Ctl bra(Warp& w, const Ins& i, u32 m) {
    jump_lanes(w, m, (u32)i.imm);
    return Jumped;
}

Ctl brx(Warp& w, const Ins& i, u32 m) {
    u32* v = w.reg<u32>(i.o[0]);
    // the group splits by target; lanes not taken (guard false) fall through
    std::vector<std::pair<u32, u32>> parts;
    lanes(m, [&](int l) {
        if (v[l] >= i.targets.size()) {
            report(Fault::Other, &w, &i, l, 0, false, "brx.idx outside its table");
            abort_launch(719);
        }
        u32 t = i.targets[v[l]];
        for (auto& p : parts)
            if (p.first == t) {
                p.second |= 1u << l;
                return;
            }
        parts.push_back({t, 1u << l});
    });
    for (auto& p : parts) jump_lanes(w, p.second, p.first);
    return Jumped;
}

Ctl exit_op(Warp& w, const Ins&, u32 m) {
    exit_lanes(w, m);
    return Jumped;
}

Ctl ret_op(Warp& w, const Ins& i, u32 m) {
    if (i.fi->f->entry) {
        exit_lanes(w, m);
        return Jumped;
    }
    u32* r = w.reg<u32>(i.fi->ret_pc_slot);
    u32 rest = m;
    while (rest) {
        u32 t = r[__builtin_ctz(rest)], same = 0;
        lanes(rest, [&](int l) {
            if (r[l] == t) same |= 1u << l;
        });
        jump_lanes(w, same, t);
        rest &= ~same;
    }
    return Jumped;
}

Ctl trap_op(Warp& w, const Ins& i, u32 m) {
    report(Fault::Other, &w, &i, __builtin_ctz(m), 0, false, "trap executed");
    abort_launch(719);
}

// ---- block barriers: sub 0 sync, 1 arrive, 2 red (sub2: popc and or); sub3: aligned
Ctl bar_op(Warp& w, const Ins& i, u32 m) {
    Block& b = *w.blk;
    if (i.sub3 && m != w.live) {
        // lanes of an aligned barrier must come together; wait for the others of the warp
        return WaitWarp;
    }
    u32 id = w.reg<u32>(i.o[1])[__builtin_ctz(m)];
    if (id > 15) {
        report(Fault::Barrier, &w, &i, __builtin_ctz(m), 0, false,
               "barrier number " + std::to_string(id));
        abort_launch(719);
    }
    Barrier& r = b.bar[id];
    bool full = i.o[2] == 0;
    u32 want = full ? b.nwarps * 32 : w.reg<u32>(i.o[2])[__builtin_ctz(m)];
    if (!full && (want % 32 || want == 0 || want > b.nwarps * 32)) {
        report(Fault::Barrier, &w, &i, __builtin_ctz(m), 0, false,
               "barrier thread count " + std::to_string(want));
        abort_launch(719);
    }
    if (r.expected && r.expected != want) {
        report(Fault::Barrier, &w, &i, __builtin_ctz(m), 0, false,
               "barrier " + std::to_string(id) + " used with counts " + std::to_string(want) +
                   " and " + std::to_string(r.expected));
        abort_launch(719);
    }
    for (auto& x : r.waiters)
        if (full && x.ins != &i && i.sub3) {
            report(Fault::Barrier, &w, &i, __builtin_ctz(m), 0, false,
                   "warps of a block wait at different barrier instructions: PTX lines " +
                       std::to_string(i.src->line) + " and " + std::to_string(x.ins->src->line));
            break;
        }
    r.expected = want;
    r.full = full;
    if (b.order && b.order->used) b.order->arrive(w, id);
    r.arrived += m == w.init ? 32 : (u32)__builtin_popcount(m);
    for (u32 k = 0; k < b.nwarps; ++k) r.vc[k] = std::max(r.vc[k], w.vc[k]);
    r.vc[w.id] = std::max(r.vc[w.id], w.clock);
    if (i.sub == 2) {
        u32 p = w.pred(i.o[3]);
        if (i.sub4) p = ~p;
        r.pop_acc += (u32)__builtin_popcount(p & m);
        r.or_acc |= (p & m) != 0;
        r.and_acc &= (p & m) == m;
    }
    if (i.sub == 1) {
        ++w.clock;
        barrier_arrive(b, id);
        return Next;
    }
    Group& g = w.group();
    u32 rest = g.mask & ~m;
    if (rest) {  // guard false for some lanes of an unaligned barrier: they go on
        g.mask = rest;
        g.pc = w.pc + 1;
        w.g[w.ng++] = {w.pc, m, GState::Bar};
    } else {
        g.pc = w.pc;
        g.st = GState::Bar;
    }
    r.waiters.push_back({w.id, m, &i, w.pc});
    barrier_arrive(b, id);
    return Jumped;
}

Ctl bar_warp(Warp& w, const Ins& i, u32 m) {
    u32 all = 0, bad = 0;
    lanes(m, [&](int l) {
        u32 v = w.reg<u32>(i.o[0])[l];
        all |= v;
        if (!((v >> l) & 1)) bad |= 1u << l;
    });
    if (all & w.live & ~m) return WaitWarp;
    if (bad) {
        report(Fault::WarpSync, &w, &i, __builtin_ctz(bad), 0, false,
               "lane not named in its own member mask");
    }
    ++w.clock;
    return Next;
}

Ctl nop(Warp&, const Ins&, u32) { return Next; }
Ctl yield_op(Warp&, const Ins&, u32) { return Yield; }

bool dec_bar(Dec& d) {
    Ins& in = d.in;
    in.cls = Cls::Sync;
    if (d.has("warp")) {
        in.fn = bar_warp;
        in.o[0] = d.src(0, 4);
        return true;
    }
    if (d.has("cluster")) {  // clusters of one block
        in.fn = nop;
        return true;
    }
    in.fn = bar_op;
    in.sub3 = d.I.op == "bar" || d.has("aligned");
    int k = 0;
    if (d.has("red")) {
        in.sub = 2;
        in.sub2 = d.has("popc") ? 0 : d.has("and") ? 1 : 2;
        in.o[0] = in.sub2 == 0 ? d.dst(0, 4) : d.pred_dst(d.op(0));
        k = 1;
        bool neg;
        in.o[3] = d.pred_src(d.I.ops.back(), neg);
        in.sub4 = neg;
        in.o[1] = d.src(1, 4);
        if (d.nops() == 4) in.o[2] = d.src(2, 4);
        return true;
    }
    in.sub = d.has("arrive") ? 1 : 0;
    in.o[1] = d.src(k, 4);
    if (d.nops() > k + 1) in.o[2] = d.src(k + 1, 4);
    return true;
}
}  // namespace

bool dec_ctrl(Dec& d) {
    Ins& in = d.in;
    const std::string& op = d.I.op;
    in.cls = Cls::Ctrl;
    if (op == "bra") {
        in.fn = bra;
        in.sub4 = 0xFB;
        return true;
    }
    if (op == "brx") {
        in.fn = brx;
        in.o[0] = d.src(0, 4);
        in.sub4 = 0xFB;
        return true;
    }
    if (op == "exit") {
        in.fn = exit_op;
        return true;
    }
    if (op == "ret") {
        in.fn = ret_op;
        return true;
    }
    if (op == "trap") {
        in.fn = trap_op;
        return true;
    }
    if (op == "call") return dec_call(d);
    if (op == "bar" || op == "barrier") return dec_bar(d);
    if (op == "nanosleep") {
        in.fn = yield_op;
        return true;
    }
    if ((op == "membar" && !d.has("cta")) ||
        (op == "fence" && (d.has("gpu") || d.has("sys") || d.has("cluster")) && !d.has("proxy"))) {
        in.fn = [](Warp& w, const Ins&, u32) -> Ctl {
            if (w.blk->order) order_fence(w);
            return Next;
        };
        in.cls = Cls::Sync;
        return true;
    }
    if (op == "membar" || op == "fence" || op == "brkpt" || op == "pmevent" || op == "setmaxnreg" ||
        op == "griddepcontrol" || op == "elect_none") {
        in.fn = nop;
        in.cls = Cls::Sync;
        return true;
    }
    return false;
}

}  // namespace ptxemu
