#include "kernels/ptxemu/interpreter/block_order.h"

#include <algorithm>

namespace ptxemu {

namespace {

void join(WarpClocks& a, const WarpClocks& b) {
    for (size_t k = 0; k < a.size(); ++k) a[k] = std::max(a[k], b[k]);
}
void add_pending(WarpOrder& o, const Acquired& a) {
    for (auto& p : o.pending)
        if (p.variable == a.variable && p.after == a.after) {
            p.upto = std::max(p.upto, a.upto);
            return;
        }
    o.pending.push_back(a);
}
void join(WarpOrder& a, const WarpOrder& b) {
    a.fenced |= b.fenced;
    join(a.covered, b.covered);
    for (auto& p : b.pending) add_pending(a, p);
}

// All that the warp has done or knows of its block.
WarpClocks clocks_of(const Warp& w) {
    WarpClocks c;
    std::copy(std::begin(w.vc), std::end(w.vc), c.begin());
    c[w.id] = w.clock;
    return c;
}

void add_acquire(Warp& w, const Acquired& a) {
    BlockOrder& b = *w.blk->order;
    const AcquireNode* head = b.acquires.get();
    bool again = head && head->warp == w.id && head->what.variable == a.variable &&
                 head->what.after == a.after;
    if (again && head->what.upto == a.upto) return;
    b.acquires = std::make_shared<const AcquireNode>(
        AcquireNode{a, w.id, w.clock, again ? head->next : b.acquires});
    b.used = true;
    ++w.clock;
}

}  // namespace

void LaunchOrder::release(Warp& w, u64 address, const WarpClocks& covered, bool keeps) {
    std::lock_guard l(mutex_);
    any_ = true;
    SyncVariable& v = variables_[address];
    if (!keeps) v.floor = v.number;
    auto& list = v.releases[w.blk->linear];
    const Acquires& acquires = w.blk->order->acquires;
    bool nothing_new = !list.empty() && list.back().number > v.floor &&
                       list.back().clocks == covered && list.back().acquires == acquires;
    if (!nothing_new) list.push_back({++v.number, covered, acquires});
    ++w.blk->order->releases;
}

Acquired LaunchOrder::look(u64 address) {
    if (!any_) return {nullptr, 0, 0};
    std::lock_guard l(mutex_);
    auto it = variables_.find(address);
    if (it == variables_.end()) return {nullptr, 0, 0};
    return {&it->second, it->second.floor, it->second.number};
}

bool LaunchOrder::search(const Acquired& a, u64 block, u32 warp, u32 clock, Seen& seen) {
    u32& depth = seen[a.variable];
    if (depth >= a.upto) return false;
    depth = a.upto;
    auto visible = [&](const std::vector<Snapshot>& list) -> const Snapshot* {
        for (size_t k = list.size(); k-- > 0;)
            if (list[k].number <= a.upto) return list[k].number > a.after ? &list[k] : nullptr;
        return nullptr;
    };
    auto direct = a.variable->releases.find(block);
    if (direct != a.variable->releases.end())
        if (const Snapshot* s = visible(direct->second); s && s->clocks[warp] >= clock) return true;
    for (auto& [b, list] : a.variable->releases)
        if (const Snapshot* s = visible(list))
            for (const AcquireNode* n = s->acquires.get(); n; n = n->next.get())
                if (s->clocks[n->warp] >= n->clock && search(n->what, block, warp, clock, seen))
                    return true;
    return false;
}

bool LaunchOrder::known(Warp& w, u64 block, u32 warp, u32 clock) {
    if (!any_) return false;
    std::lock_guard l(mutex_);
    Seen seen;
    for (const AcquireNode* n = w.blk->order->acquires.get(); n; n = n->next.get())
        if ((n->warp == w.id || w.vc[n->warp] >= n->clock) &&
            search(n->what, block, warp, clock, seen))
            return true;
    return false;
}

void BlockOrder::reset(u32 num_warps) {
    warps.assign(num_warps, {});
    if (used)
        for (auto& a : arriving) a = {};
    acquires = nullptr;
    releases = 0;
    used = false;
}

void BlockOrder::arrive(Warp& w, u32 barrier) { join(arriving[barrier], warps[w.id]); }

void BlockOrder::complete(u32 barrier, const std::vector<Warp*>& waiters) {
    for (Warp* w : waiters) join(warps[w->id], arriving[barrier]);
    arriving[barrier] = {};
}

void order_fence(Warp& w) {
    BlockOrder& b = *w.blk->order;
    WarpOrder& o = b.warps[w.id];
    b.used = o.fenced = true;
    join(o.covered, clocks_of(w));
    auto pending = std::move(o.pending);
    o.pending.clear();
    for (auto& a : pending) add_acquire(w, a);
    ++w.clock;
}

u32 order_write(Warp& w, u64 address, u8 order, bool keeps) {
    WarpOrder& o = w.blk->order->warps[w.id];
    LaunchOrder& launch = *w.blk->L->order;
    if (order & kRelease) {
        u32 mine = w.clock;
        launch.release(w, address, clocks_of(w), keeps);
        w.blk->order->used = true;
        ++w.clock;
        return mine;
    }
    if (!o.fenced) {
        if (!keeps && launch.look(address).variable) launch.release(w, address, {}, false);
        return w.clock;
    }
    launch.release(w, address, o.covered, keeps);
    return std::min(w.clock, o.covered[w.id]);
}

void order_read(Warp& w, u64 address, u8 order) {
    Acquired a = w.blk->L->order->look(address);
    if (a.upto == a.after) return;
    if (order & kAcquire) {
        add_acquire(w, a);
        return;
    }
    add_pending(w.blk->order->warps[w.id], a);
    w.blk->order->used = true;
}

}  // namespace ptxemu
