// mbarriers, and the asynchronous copies that complete on them.
#include <algorithm>

#include "kernels/ptxemu/interpreter/access.h"
#include "kernels/ptxemu/interpreter/async.h"
#include "kernels/ptxemu/interpreter/lane.h"

namespace ptxemu {

// ---------------------------------------------------------------- mbarrier word
// bits 0-19 expected arrivals, 20-39 pending arrivals, 40-62 transaction bytes (signed), 63 phase
namespace {
struct MBar {
    u32 expected, pending;
    i32 tx;
    u32 phase;
    static MBar load(const u8* p) {
        u64 v;
        memcpy(&v, p, 8);
        MBar m;
        m.expected = v & 0xfffff;
        m.pending = (v >> 20) & 0xfffff;
        m.tx = (i32)((u32)(v >> 40) << 9) >> 9;
        m.phase = (u32)(v >> 63);
        return m;
    }
    u64 word() const {
        return (u64)expected | (u64)pending << 20 | ((u64)tx & 0x7fffff) << 40 | (u64)phase << 63;
    }
    void save(u8* p) {
        u64 v = word();
        memcpy(p, &v, 8);
    }
    void settle() {
        if (pending == 0 && tx == 0) {
            phase ^= 1;
            pending = expected;
        }
    }
};
u8* mbar_at(Block& b, u32 a) { return b.smem + (a - kSharedBase); }

void release(Warp& w, u32 mbar) {
    auto& vc = w.blk->mbar_vc[mbar];
    if (vc.empty()) vc.resize(kMaxWarps);
    for (int k = 0; k < kMaxWarps; ++k) vc[k] = std::max(vc[k], w.vc[k]);
    vc[w.id] = std::max(vc[w.id], w.clock);
}
void acquire(Warp& w, u32 mbar) {
    auto it = w.blk->mbar_vc.find(mbar);
    if (it == w.blk->mbar_vc.end()) return;
    for (int k = 0; k < kMaxWarps; ++k) w.vc[k] = std::max(w.vc[k], it->second[k]);
    ++w.clock;
}
}  // namespace

u32 mbar_addr(Warp& w, const Ins& i, int l, u64 a) {
    if (a - kSharedWindow < kWindowSize) a -= kSharedWindow;
    if (a & 7) misaligned(w, i, l, a, 8);
    shared_at(w, i, l, a, 8);
    return (u32)a;
}
void mbar_tx(Block& b, u32 a, i32 bytes) {
    MBar m = MBar::load(mbar_at(b, a));
    m.tx += bytes;
    m.settle();
    m.save(mbar_at(b, a));
    b.mbar_spin = 0;
}
static u64 mbar_arrive(Block& b, u32 a, u32 count, i32 expect_tx, bool drop) {
    MBar m = MBar::load(mbar_at(b, a));
    u64 token = m.word();
    m.tx += expect_tx;
    if (drop) m.expected -= count;
    m.pending -= count;
    m.settle();
    m.save(mbar_at(b, a));
    b.mbar_spin = 0;
    return token;
}

bool flush_async(Block& b, u32 mbar) {
    bool any = false;
    for (size_t k = 0; k < b.bulk.size();) {
        if (b.bulk[k].mbar != mbar) {
            ++k;
            continue;
        }
        BulkOp op = std::move(b.bulk[k]);
        b.bulk.erase(b.bulk.begin() + (long)k);
        op.deliver();
        mbar_tx(b, mbar, -(i32)op.bytes);
        any = true;
    }
    for (auto& wp : b.warps) {
        Warp& w = *wp;
        for (u32 l = 0; l < 32; ++l)
            for (size_t k = 0; k < w.parr[l].size();) {
                if (w.parr[l][k].mbar != mbar) {
                    ++k;
                    continue;
                }
                PendingArrive a = w.parr[l][k];
                w.parr[l].erase(w.parr[l].begin() + (long)k);
                auto& v = w.pend[l];
                for (u32 j = 0; j < a.upto && j < v.size(); ++j) {
                    memcpy(b.smem + (v[j].dst - kSharedBase), v[j].data, v[j].size);
                    if (b.shadow)
                        b.shadow->deliver(w, (int)l, v[j].dst - kSharedBase, v[j].size, true);
                }
                u32 n = std::min<u32>(a.upto, (u32)v.size());
                v.erase(v.begin(), v.begin() + n);
                for (auto& o : w.parr[l]) o.upto -= std::min(o.upto, n);
                release(w, mbar);
                ++w.clock;
                mbar_arrive(b, mbar, 1, 0, false);
                any = true;
            }
    }
    return any;
}

Ctl cp_async_arrive(Warp& w, const Ins& i, u32 m) {
    u64 A[32];
    addresses(w, i, 1, A);
    lanes(m, [&](int l) {
        u32 a = mbar_addr(w, i, l, A[l]);
        if (!i.sub) {  // without .noinc the pending count rises now and falls at completion
            MBar b = MBar::load(mbar_at(*w.blk, a));
            ++b.pending;
            b.save(mbar_at(*w.blk, a));
        }
        w.parr[l].push_back({a, (u32)w.pend[l].size(), (bool)i.sub});
    });
    return Next;
}

namespace {
enum MOp : u8 {
    MInit,
    MInval,
    MExpect,
    MComplete,
    MArrive,
    MArriveTx,
    MTest,
    MTestParity,
    MPending
};
// o[0] result, o[1] address, o[2] count/state/tx; sub op, sub3: drop
Ctl mbar(Warp& w, const Ins& i, u32 m) {
    Block& b = *w.blk;
    u64 A[32];
    addresses(w, i, 1, A);
    bool wait = i.sub == MTest || i.sub == MTestParity;
    u32 ok = 0, failed = 0;
    lanes(m, [&](int l) {
        u32 a = mbar_addr(w, i, l, A[l]);
        u8* p = mbar_at(b, a);
        switch (i.sub) {
            case MInit: {
                u32 c = w.reg<u32>(i.o[2])[l];
                MBar x{c, c, 0, 0};
                x.save(p);
                if (b.shadow) b.shadow->mark_init(a - kSharedBase, 8);
                b.mbar_vc.erase(a);
                break;
            }
            case MInval:
                break;
            case MExpect:
                mbar_tx(b, a, (i32)w.reg<u32>(i.o[2])[l]);
                break;
            case MComplete:
                mbar_tx(b, a, -(i32)w.reg<u32>(i.o[2])[l]);
                break;
            case MArrive:
            case MArriveTx: {
                u32 c = i.sub == MArrive && i.o[2] ? w.reg<u32>(i.o[2])[l] : 1;
                release(w, a);
                u64 t = mbar_arrive(b, a, c, i.sub == MArriveTx ? (i32)w.reg<u32>(i.o[2])[l] : 0,
                                    i.sub3);
                if (i.o[0]) w.reg<u64>(i.o[0])[l] = t;
                break;
            }
            default: {
                auto done = [&] {
                    u32 ph = MBar::load(p).phase;
                    return i.sub == MTest ? ph != (u32)(w.reg<u64>(i.o[2])[l] >> 63)
                                          : ph != (w.reg<u32>(i.o[2])[l] & 1);
                };
                bool d = done();
                if (!d) {
                    flush_async(b, a);
                    d = done();
                }
                if (d) {
                    ok |= 1u << l;
                    acquire(w, a);
                } else
                    failed |= 1u << l;
            }
        }
    });
    if (i.sub == MArrive || i.sub == MArriveTx) ++w.clock;
    if (!wait) return Next;
    u32& p = w.pred(i.o[0]);
    p = (p & ~m) | ok;
    if (!failed) return Next;
    if (++b.mbar_spin > 2000000) {
        report(Fault::WarpSync, &w, &i, __builtin_ctz(failed), A[__builtin_ctz(failed)], true,
               "mbarrier never completes (deadlock)");
        abort_launch(719);
    }
    return Yield;
}
Ctl mbar_pending(Warp& w, const Ins& i, u32 m) {
    lanes(m, [&](int l) { w.reg<u32>(i.o[0])[l] = (u32)(w.reg<u64>(i.o[2])[l] >> 20) & 0xfffff; });
    return Next;
}
}  // namespace

bool dec_mbar(Dec& d) {
    Ins& in = d.in;
    in.fn = mbar;
    int k = 0;  // operand of the address
    if (d.has("pending_count")) {
        in.fn = mbar_pending;
        in.o[0] = d.dst(0, 4);
        in.o[2] = d.src(1, 8);
        return true;
    }
    if (d.has("init"))
        in.sub = MInit;
    else if (d.has("inval"))
        in.sub = MInval;
    else if (d.has("arrive") || d.has("arrive_drop")) {
        in.sub = d.has("expect_tx") ? MArriveTx : MArrive;
        in.sub3 = d.has("arrive_drop");
    } else if (d.has("expect_tx"))
        in.sub = MExpect;
    else if (d.has("complete_tx"))
        in.sub = MComplete;
    else if (d.has("test_wait") || d.has("try_wait"))
        in.sub = d.has("parity") ? MTestParity : MTest;
    else
        return false;
    bool wait = in.sub == MTest || in.sub == MTestParity,
         arrive = in.sub == MArrive || in.sub == MArriveTx;
    if (wait) {
        in.o[0] = d.pred_dst(d.op(0));
        k = 1;
    } else if (arrive && d.op(0).k != Opnd::Addr) {
        in.o[0] = d.dst(0, 8);
        k = 1;
    }
    address_of(d, d.op(k), 1);
    if (d.nops() > k + 1) in.o[2] = d.src(k + 1, in.sub == MTest ? 8 : 4);
    return true;
}

}  // namespace ptxemu
