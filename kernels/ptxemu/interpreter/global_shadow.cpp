#include "kernels/ptxemu/interpreter/global_shadow.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>

#include "kernels/ptxemu/interpreter/block_order.h"
#include "kernels/ptxemu/interpreter/report.h"

namespace ptxemu {

namespace {

// Records of a granule that found no room in it.
struct SideTable {
    std::mutex mutex;
    std::unordered_map<const Granule*, std::vector<Access>> lists;
};
SideTable& side_table() {
    static SideTable& t = *new SideTable;
    return t;
}

class SpinLock {
  public:
    void lock() {
        while (flag_.test_and_set(std::memory_order_acquire)) {
        }
    }
    void unlock() { flag_.clear(std::memory_order_release); }

  private:
    std::atomic_flag flag_ = ATOMIC_FLAG_INIT;
};
SpinLock locks[1024];

// Who touches memory: a warp, or work outside the kernels.
struct Toucher {
    Warp* w = nullptr;
    const Ins* i = nullptr;
    const OrderedOp* op;
    u32* known_ops;  // a small cache of operations that come before
    Access me;       // all but its mask

    bool op_before(u32 id) {
        u32& cached = known_ops[id % Worker::kKnownOps];
        if (cached == id) return true;
        if (!order().before(id, *op->knows)) return false;
        cached = id;
        return true;
    }
    bool ordered(const Access& a) {
        if (a.op != me.op) return (a.strong() && me.strong()) || op_before(a.op);
        if (a.block == me.block && (a.warp == me.warp || (a.flags & Access::kMixed))) return true;
        if (a.strong() && me.strong()) return true;
        if (a.block == me.block && w->vc[a.warp] >= a.clock) return true;
        return w && w->blk->L->order->known(*w, a.block, a.warp, a.clock);
    }
};

std::string block_name(const Launch& l, u64 block) {
    char b[64];
    snprintf(b, sizeof b, "block (%u,%u,%u)", (u32)(block % l.grid.x),
             (u32)(block / l.grid.x % l.grid.y), (u32)(block / l.grid.x / l.grid.y));
    return b;
}

// What two accesses that race have in common, in words.
void race(Toucher& t, u64 address, int lane, const char* what, const Access& other) {
    std::string s = std::string("race: ") + what + " ";
    const Access& me = t.me;
    if (other.op != me.op)
        s += "of " + order().name(other.op) + ": no event, wait or order of the stream in between";
    else if (other.block != me.block)
        s += "by " + block_name(*t.w->blk->L, other.block) + ": nothing orders the two blocks";
    else
        s += "by warp " + std::to_string(other.warp) + " of the same block: no barrier in between";
    if (t.w) {
        report(Fault::GlobalRace, t.w, t.i, lane, address, true, s);
        return;
    }
    s = order().name(me.op) + ": " + s;
    report(Fault::GlobalRace, nullptr, (const Ins*)std::hash<std::string>{}(s), 0, address, true,
           s);
}

class Visit {
  public:
    Visit(Toucher& t, Granule& g, u64 address, u64 mask, int lane)
        : t_(t), g_(g), address_(address), lane_(lane), mask_(mask) {}

    void read() {
        Access& last = g_.read[0];
        if (last.same_warp(t_.me) && !(mask_ & ~last.mask)) return;
        for (Access& a : g_.write) check(a, "read after a write");
        if (g_.more())
            for_side([&](Access& a) {
                if (a.flags & Access::kWrite) check(a, "read after a write");
            });
        remember(g_.read, 0);
    }

    void write(u32 lanes, SameValue same) {
        Access& last = g_.write[0];
        if (last.same_warp(t_.me) && !(mask_ & ~last.mask) &&
            !((g_.read[0].mask | g_.read[1].mask) & mask_) && !g_.more())
            return;
        bool silent = false;
        auto check_write = [&](Access& a) {
            if (!(a.mask & mask_) || silent || t_.ordered(a)) return;
            silent = same(lanes);
            if (!silent) race(t_, address_, lane_, "write after a write", a);
        };
        for (Access& a : g_.write) check_write(a);
        for (Access& a : g_.read) check(a, "write after a read");
        for (Access* a : {&g_.write[0], &g_.write[1], &g_.read[0], &g_.read[1]}) a->mask &= ~mask_;
        if (g_.more())
            for_side([&](Access& a) {
                if (a.flags & Access::kWrite)
                    check_write(a);
                else
                    check(a, "write after a read");
                a.mask &= ~mask_;
            });
        remember(g_.write, Access::kWrite);
    }

  private:
    void check(const Access& a, const char* what) {
        if ((a.mask & mask_) && !t_.ordered(a)) race(t_, address_, lane_, what, a);
    }

    // The newest of two records becomes this access; the older one goes where it is still needed.
    void remember(Access (&a)[2], u8 kind) {
        const u8 more = g_.write[0].flags & Granule::kMore;
        if (!a[0].mask || !a[0].same_block(t_.me)) {
            if (a[1].mask && a[1].same_block(t_.me)) {
                std::swap(a[0], a[1]);
            } else {
                if (needed(a[1], a[0], kind)) keep_aside(a[1], kind);
                a[1] = a[0];
                a[0] = t_.me;
                a[0].mask = 0;
            }
        }
        bool mixed = a[0].mask && !a[0].same_warp(t_.me);
        u64 mask = a[0].mask | mask_;
        u8 flags = a[0].flags;
        a[0] = t_.me;
        a[0].mask = mask;
        a[0].flags |= (flags | (mixed ? Access::kMixed : 0)) & Access::kMixed;
        a[0].flags &= (u8)~Granule::kMore;
        a[1].flags &= (u8)~Granule::kMore;
        g_.write[0].flags |= more | (aside_ ? Granule::kMore : 0);
    }

    // Would a race with `old` go unseen without it? Not when this access comes after it, nor when
    // two other blocks have read all its bytes.
    bool needed(const Access& old, const Access& newer, u8 kind) {
        if (!old.mask || (old.op != t_.me.op && t_.op_before(old.op))) return false;
        if (kind == Access::kWrite) return true;
        bool weaker = old.strong() || (!newer.strong() && !t_.me.strong());
        return !weaker || (old.mask & ~(newer.mask & mask_));
    }

    void keep_aside(const Access& a, u8 kind) {
        std::lock_guard l(side_table().mutex);
        auto& list = side_table().lists[&g_];
        std::erase_if(
            list, [&](Access& x) { return !x.mask || (x.op != t_.me.op && t_.op_before(x.op)); });
        aside_ = true;
        for (Access& x : list)
            if (x.same_warp(a) && (x.flags & Access::kWrite) == kind) {
                x.mask |= a.mask;
                return;
            }
        list.push_back(a);
        list.back().flags = (u8)((a.flags & ~Granule::kMore) | kind);
    }

    template <class F>
    void for_side(F&& f) {
        std::lock_guard l(side_table().mutex);
        auto it = side_table().lists.find(&g_);
        if (it == side_table().lists.end()) return;
        for (Access& a : it->second)
            if (a.mask) f(a);
        std::erase_if(it->second, [](Access& x) { return !x.mask; });
        if (!it->second.empty()) return;
        side_table().lists.erase(it);
        g_.write[0].flags &= (u8)~Granule::kMore;
    }

    Toucher& t_;
    Granule& g_;
    const u64 address_;
    const int lane_;
    const u64 mask_;
    bool aside_ = false;
};

Toucher toucher(Warp& w, const Ins& i, u32 clock) {
    const Launch& l = *w.blk->L;
    Toucher t{&w, &i, &l.ordered, w.wk->known_ops, {}};
    t.me.op = l.ordered.id;
    t.me.block = (u32)w.blk->linear;
    t.me.clock = clock & 0xffffff;
    t.me.warp = (u8)w.id;
    t.me.epoch = (u8)w.blk->order->releases;
    t.me.flags = i.order & kStrong ? Access::kStrongAccess : 0;
    return t;
}

template <class F>
void locked(const Granule* g, F&& f) {
    if (opt().threads == 1) return f();
    std::lock_guard l(locks[(u64)g / sizeof(Granule) % std::size(locks)]);
    f();
}

// The bytes from `a` on, at most `n`, that lie in one granule.
struct Span {
    u64 bytes, mask;
    Span(u64 a, u64 n)
        : bytes(std::min(n, Granule::kBytes - a % Granule::kBytes)),
          mask((~0ull >> (64 - bytes)) << a % Granule::kBytes) {}
};

// All lanes, one behind the other.
bool coalesced(const u64* addresses, u32 mask, u32 bytes) {
    if (mask != ~0u) return false;
    u64 gaps = 0;
    for (u64 l = 0; l < 32; ++l) gaps |= addresses[l] ^ (addresses[0] + l * bytes);
    return gaps == 0;
}

// f(granule, byte mask, lanes), lanes next to each other in one granule at once
template <class F>
void each_granule(const u64* addresses, u32 mask, u32 bytes, F&& f) {
    if (coalesced(addresses, mask, bytes)) {
        for (u64 first = addresses[0], a = first, end = first + 32 * bytes; a < end;) {
            Span span(a, end - a);
            u64 lane = (a - first) / bytes, last = (a + span.bytes - 1 - first) / bytes;
            if (Granule* g = granule_of(a))
                f(*g, span.mask, (u32)((2ull << last) - (1ull << lane)));
            a += span.bytes;
        }
        return;
    }
    u64 current = ~0ull, bits = 0;
    u32 together = 0;
    auto flush = [&] {
        if (!together) return;
        if (Granule* g = granule_of(current * Granule::kBytes)) f(*g, bits, together);
    };
    lanes(mask, [&](int l) {
        for (u64 a = addresses[l], end = a + bytes; a < end;) {
            Span span(a, end - a);
            if (a / Granule::kBytes != current) {
                flush();
                current = a / Granule::kBytes;
                bits = together = 0;
            }
            bits |= span.mask;
            together |= 1u << l;
            a += span.bytes;
        }
    });
    flush();
}

// f(granule, address, byte mask) for a range
template <class F>
void each_granule(u64 a, u64 bytes, F&& f) {
    for (u64 end = a + bytes; a < end;) {
        Span span(a, end - a);
        if (Granule* g = granule_of(a)) f(*g, a, span.mask);
        a += span.bytes;
    }
}

void visit_range(Toucher& t, u64 address, u64 bytes, bool write, int lane) {
    each_granule(address, bytes, [&](Granule& g, u64 at, u64 bits) {
        locked(&g, [&] {
            Visit v(t, g, at, bits, lane);
            if (write)
                v.write(1u << lane, {});
            else
                v.read();
        });
    });
}

}  // namespace

void global_read(Warp& w, const Ins& i, const u64* addresses, u32 mask, u32 bytes) {
    Toucher t = toucher(w, i, w.clock);
    each_granule(addresses, mask, bytes, [&](Granule& g, u64 bits, u32 together) {
        int l = __builtin_ctz(together);
        locked(&g, [&] { Visit(t, g, addresses[l], bits, l).read(); });
    });
}

void global_write(Warp& w, const Ins& i, const u64* addresses, u32 mask, u32 bytes, u32 clock,
                  SameValue same) {
    Toucher t = toucher(w, i, clock);
    each_granule(addresses, mask, bytes, [&](Granule& g, u64 bits, u32 together) {
        int l = __builtin_ctz(together);
        locked(&g, [&] { Visit(t, g, addresses[l], bits, l).write(together, same); });
    });
}

void global_range(Warp& w, const Ins& i, int lane, u64 address, u64 bytes, bool write) {
    Toucher t = toucher(w, i, w.clock);
    visit_range(t, address, bytes, write, lane);
}

void global_range(u64 address, u64 bytes, bool write, const OrderedOp& op) {
    u32 known_ops[Worker::kKnownOps] = {};
    Toucher t{nullptr, nullptr, &op, known_ops, {}};
    t.me.op = op.id;
    visit_range(t, address, bytes, write, 0);
}

}  // namespace ptxemu
