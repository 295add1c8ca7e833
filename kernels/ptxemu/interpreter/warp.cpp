// Warps step over groups of lanes in min-pc order, and meet at barriers.
#include <algorithm>

#include "kernels/ptxemu/interpreter/block_order.h"
#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/engine.h"
#include "kernels/ptxemu/interpreter/report.h"
#include "kernels/ptxemu/interpreter/stats.h"

namespace ptxemu {

// ------------------------------------------------------------------ groups

static void add_group(Warp& w, u32 pc, u32 mask) { w.g[w.ng++] = {pc, mask, GState::Ready}; }

void jump_lanes(Warp& w, u32 ls, u32 target) {
    Group& g = w.group();
    if (target <= w.pc) ++w.spins;
    if (ls == g.mask) {
        g.pc = target;
        return;
    }
    g.mask &= ~ls;
    g.pc = w.pc + 1;
    add_group(w, target, ls);
}

void exit_lanes(Warp& w, u32 ls) {
    Group& g = w.group();
    w.live &= ~ls;
    w.blk->exited += (u32)__builtin_popcount(ls);
    g.mask &= ~ls;
    g.pc = w.pc + 1;
    if (!g.mask) g = w.g[--w.ng];
    for (int k = 0; k < w.ng; ++k)
        if (w.g[k].st == GState::Sync) w.g[k].st = GState::Ready;
    lanes(ls, [&](int l) {
        if (w.parr[l].empty()) w.pend[l].clear();
    });
    for (u32 b = 0; b < 16; ++b)
        if (!w.blk->bar[b].waiters.empty()) barrier_arrive(*w.blk, b);
}

static void merge_groups(Warp& w) {
    for (int a = 0; a < w.ng; ++a)
        for (int b = a + 1; b < w.ng; ++b)
            if (w.g[a].pc == w.g[b].pc && w.g[a].st != GState::Bar && w.g[b].st != GState::Bar) {
                w.g[a].mask |= w.g[b].mask;
                w.g[a].st = GState::Ready;
                w.g[b] = w.g[--w.ng];
                w.stick = false;
                --b;
            }
}

// chooses the group to run; false if all wait
static bool pick(Warp& w) {
    if (w.ng > 1) merge_groups(w);
    int best = -1;
    for (int k = 0; k < w.ng; ++k)
        if (w.g[k].st == GState::Ready && (best < 0 || w.g[k].pc < w.g[best].pc)) best = k;
    if (best < 0) return false;
    if (w.ng > 1 &&
        w.spins > 20000) {  // fairness between diverged lanes: let another group run for a while
        w.spins = 0;
        int other = -1;
        for (int k = 0; k < w.ng; ++k)
            if (k != best && w.g[k].st == GState::Ready && (other < 0 || w.g[k].pc < w.g[other].pc))
                other = k;
        if (other >= 0) {
            w.stick = true;
            w.stick_left = 2000;
            best = other;
        }
    }
    w.cur = best;
    return true;
}

static u32 next_meeting(const Warp& w, u32 pc) {
    u32 n = ~0u;
    for (int k = 0; k < w.ng; ++k)
        if (k != w.cur && w.g[k].st != GState::Bar && w.g[k].pc > pc) n = std::min(n, w.g[k].pc);
    return n;
}

template <bool Count>
Stop run_warp(Warp& w, u64 quantum) {
    const Ins* code = w.blk->L->prog->code.data();
    Worker& wk = *w.wk;
    u64 left = quantum;
    for (;;) {
        if (w.ng == 0) return Stop::Finished;
        if (w.stick && w.stick_left > 0 && w.cur < w.ng && w.g[w.cur].st == GState::Ready) {
            merge_groups(w);
            if (!w.stick && !pick(w)) return Stop::Blocked;
        } else {
            w.stick = false;
            if (!pick(w)) return Stop::Blocked;
        }
        u32 pc = w.g[w.cur].pc, mask = w.g[w.cur].mask;
        u32 meet = w.ng > 1 ? next_meeting(w, pc) : ~0u;
        for (;;) {
            const Ins& in = code[pc];
            u32 m = mask;
            if (in.guard) {
                u32 p = w.pred(in.guard);
                m &= in.guard_neg ? ~p : p;
            }
            ++wk.instrs;
            wk.thread_instrs += (u32)__builtin_popcount(m);
            if constexpr (Count) {
                wk.stats->warp[(int)in.cls]++;
                wk.stats->thread[(int)in.cls] += (u32)__builtin_popcount(m);
            }
            if (m) {
                w.pc = pc;
                Ctl c = in.fn(w, in, m);
                if (__builtin_expect(c != Next, 0)) {
                    if (c == Jumped) {
                        if (--left == 0) return Stop::Quantum;
                        if (w.ng == 1 && w.g[0].st == GState::Ready) {
                            w.cur = 0;
                            pc = w.g[0].pc;
                            mask = w.g[0].mask;
                            meet = ~0u;
                            continue;
                        }
                        if (w.stick && --w.stick_left == 0) w.stick = false;
                        break;
                    }
                    Group& g = w.group();
                    if (c == WaitWarp) {
                        g.pc = pc;
                        g.st = GState::Sync;
                        break;
                    }
                    if (c == WaitBar) break;
                    if (c == Yield) {
                        g.pc = pc + 1;
                        return Stop::Quantum;
                    }
                }
            }
            ++pc;
            if (__builtin_expect(pc == meet, 0)) {
                w.group().pc = pc;
                break;
            }
            if (--left == 0) {
                w.group().pc = pc;
                return Stop::Quantum;
            }
        }
    }
}

// ------------------------------------------------------------------ barriers

// completes barrier id if all have come
void barrier_arrive(Block& b, u32 id) {
    Barrier& r = b.bar[id];
    bool with_exited = r.full && b.exited && r.arrived + b.exited >= b.nthreads;
    if (r.arrived < r.expected && !with_exited) return;
    if (with_exited && !opt().exit_ok && r.arrived < b.nthreads && !b.exit_reported &&
        !r.waiters.empty()) {
        b.exit_reported = true;
        auto& x = r.waiters[0];
        report(Fault::Barrier, b.warps[x.warp].get(), x.ins, __builtin_ctz(x.mask), 0, false,
               "barrier " + std::to_string(id) + ": " + std::to_string(b.exited) + " of " +
                   std::to_string(b.nthreads) + " threads have exited before it");
    }
    auto waiters = std::move(r.waiters);
    r.waiters.clear();
    u32 or_a = r.or_acc, and_a = r.and_acc, pop = r.pop_acc;
    u32 joined[kMaxWarps];
    memcpy(joined, r.vc, sizeof joined);
    r.arrived = r.expected = 0;
    r.or_acc = r.pop_acc = 0;
    r.and_acc = 1;
    memset(r.vc, 0, sizeof r.vc);
    if (b.order && b.order->used) {
        std::vector<Warp*> warps;
        for (auto& x : waiters) warps.push_back(b.warps[x.warp].get());
        b.order->complete(id, warps);
    }
    for (auto& x : waiters) {
        Warp& w = *b.warps[x.warp];
        for (u32 k = 0; k < b.nwarps; ++k) w.vc[k] = std::max(w.vc[k], joined[k]);
        ++w.clock;
        for (int k = 0; k < w.ng; ++k)
            if (w.g[k].st == GState::Bar && w.g[k].pc == x.pc && w.g[k].mask == x.mask) {
                w.g[k].st = GState::Ready;
                w.g[k].pc = x.pc + 1;
            }
        if (x.ins->sub == 2) {  // bar.red
            u32 v = x.ins->sub2 == 0 ? pop : x.ins->sub2 == 1 ? and_a : or_a;
            if (x.ins->sub2 == 0)
                lanes(x.mask, [&](int l) { w.reg<u32>(x.ins->o[0])[l] = v; });
            else {
                u32& p = w.pred(x.ins->o[0]);
                p = v ? p | x.mask : p & ~x.mask;
            }
        }
    }
}

template Stop run_warp<false>(Warp&, u64);
template Stop run_warp<true>(Warp&, u64);

}  // namespace ptxemu
