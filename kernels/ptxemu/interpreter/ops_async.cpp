// Asynchronous copies. A copy's data reaches shared memory only when somebody waits for it.
#include <algorithm>

#include "kernels/ptxemu/interpreter/access.h"
#include "kernels/ptxemu/interpreter/async.h"
#include "kernels/ptxemu/interpreter/lane.h"

namespace ptxemu {

void deliver_copies(Warp& w, u32 lane, u32 keep, bool all) {
    auto& v = w.pend[lane];
    if (v.empty()) return;
    u32 limit = all ? ~0u : w.committed[lane] >= keep ? w.committed[lane] - keep : 0;
    size_t k = 0;
    for (; k < v.size() && (all || v[k].group < limit); ++k) {
        memcpy(w.blk->smem + (v[k].dst - kSharedBase), v[k].data, v[k].size);
        if (w.blk->shadow)
            w.blk->shadow->deliver(w, (int)lane, v[k].dst - kSharedBase, v[k].size, true);
    }
    v.erase(v.begin(), v.begin() + (long)k);
    for (auto& a : w.parr[lane]) a.upto -= std::min<u32>(a.upto, (u32)k);
}

namespace {

// o[1] dst (sub2: 32-bit base), o[2] src, o[3] source size or 0, o[4] ignore predicate; msize bytes
Ctl cp_async(Warp& w, const Ins& i, u32 m) {
    u64 D[32];
    addresses(w, i, 1, D);
    const u64* S = w.reg<u64>(i.o[2]);
    i64 so = (i64)i.ext[0];
    u32 ign = i.o[4] ? w.pred(i.o[4]) : 0;
    if (i.sub3) ign = ~ign;
    if (w.wk->stats) {
        u64 A[32];
        for (int l = 0; l < 32; ++l) A[l] = S[l] + (u64)so;
        u32 live = m;
        if (i.o[3])
            lanes(m, [&](int l) {
                if (w.reg<u32>(i.o[3])[l] == 0) live &= ~(1u << l);
            });
        count_access(w, i, live, A, i.msize, true, SpGlobal);
        count_access(w, i, m, D, i.msize, false, SpShared);
    }
    u64 source[32];
    u32 whole = 0;  // lanes that copy all of their bytes
    lanes(m, [&](int l) {
        u64 a = D[l];
        if (a - kSharedWindow < kWindowSize) a -= kSharedWindow;
        if (a & (u64)(i.msize - 1)) misaligned(w, i, l, a, i.msize);
        shared_at(w, i, l, a, i.msize);
        u32 n = i.o[3] ? std::min<u32>(w.reg<u32>(i.o[3])[l], i.msize) : i.msize;
        if (i.o[4] && (ign >> l) & 1) n = 0;
        PendingCopy p{(u32)a, i.msize, w.committed[l], &i, {}};
        memset(p.data, 0, 16);
        if (n) {
            u64 s = S[l] + (u64)so;
            if (s & (u64)(i.msize - 1)) misaligned(w, i, l, s, i.msize);
            memcpy(p.data, global(w, i, l, s, n), n);
            source[l] = s;
            if (n == i.msize)
                whole |= 1u << l;
            else if (races(w))
                global_range(w, i, l, s, n, false);
            if (g_init) check_init(w, i, l, s, n);
        }
        if (w.blk->shadow) w.blk->shadow->issue(w, i, l, (u32)a - kSharedBase, i.msize);
        memset(w.blk->smem + (a - kSharedBase), 0xFF, i.msize);
        w.pend[l].push_back(p);
    });
    if (whole && races(w)) global_read(w, i, source, whole, i.msize);
    return Next;
}
Ctl commit_group(Warp& w, const Ins&, u32 m) {
    lanes(m, [&](int l) { ++w.committed[l]; });
    return Next;
}
Ctl wait_group(Warp& w, const Ins& i, u32 m) {
    lanes(m, [&](int l) { deliver_copies(w, (u32)l, (u32)i.imm, i.sub); });
    return Next;
}

// 1D bulk copy. o[1] dst, o[2] src, o[3] size, o[4] mbarrier; sub: 0 global->shared, 1
// shared->global, 2 reduce add f32 shared->global
Ctl bulk(Warp& w, const Ins& i, u32 m) {
    Block& b = *w.blk;
    lanes(m, [&](int l) {
        u64 d = w.reg<u64>(i.o[1])[l] + i.ext[0], s = w.reg<u64>(i.o[2])[l] + i.ext[1];
        u32 n = w.reg<u32>(i.o[3])[l];
        auto unwin = [](u64 a) { return a - kSharedWindow < kWindowSize ? a - kSharedWindow : a; };
        if (n & 15) misaligned(w, i, l, n, 16);
        if (n == 0) return;
        if ((d & 15) || (s & 15)) misaligned(w, i, l, d & 15 ? d : s, 16);
        if (i.sub == 0) {
            d = unwin(d);
            u8* to = shared_at(w, i, l, d, n);
            u8* from = global(w, i, l, s, n);
            u32 mb = mbar_addr(w, i, l, w.reg<u64>(i.o[4])[l] + i.ext[2]);
            if (g_init) check_init(w, i, l, s, n);
            if (races(w)) global_range(w, i, l, s, n, false);
            std::vector<u8> data(from, from + n);
            u32 off = (u32)d - kSharedBase;
            if (b.shadow) b.shadow->issue(w, i, l, off, n);
            memset(to, 0xFF, n);
            Warp* wp = &w;
            b.bulk.push_back({mb,
                              [to, data, wp, off, l] {
                                  memcpy(to, data.data(), data.size());
                                  if (wp->blk->shadow)
                                      wp->blk->shadow->deliver(*wp, l, off, (u32)data.size(),
                                                               false);
                              },
                              n});
        } else {
            s = unwin(s);
            u8* from = shared_at(w, i, l, s, n);
            u8* to = global(w, i, l, d, n);
            if (b.shadow) b.shadow->read(w, i, l, (u32)s - kSharedBase, n);
            if (g_init) set_init(d, n);
            if (races(w)) global_range(w, i, l, d, n, true);
            if (i.sub == 1)
                memcpy(to, from, n);
            else
                for (u32 k = 0; k < n; k += 4) {
                    float x, y;
                    memcpy(&x, to + k, 4);
                    memcpy(&y, from + k, 4);
                    x += y;
                    memcpy(to + k, &x, 4);
                }
        }
    });
    return Next;
}
Ctl nop(Warp&, const Ins&, u32) { return Next; }
}  // namespace

bool dec_async(Dec& d) {
    Ins& in = d.in;
    in.cls = Cls::Async;
    if (d.I.op == "mbarrier") return dec_mbar(d);
    if (d.I.op == "cp" && d.has("async") && !d.has("bulk")) {
        if (d.has("commit_group")) {
            in.fn = commit_group;
            return true;
        }
        if (d.has("wait_all")) {
            in.fn = wait_group;
            in.sub = 1;
            return true;
        }
        if (d.has("wait_group")) {
            in.fn = wait_group;
            i64 n;
            if (!d.immediate(d.op(0), n)) d.fail();
            in.imm = n;
            return true;
        }
        if (d.has("mbarrier")) {
            in.fn = cp_async_arrive;
            in.sub = d.has("noinc");
            address_of(d, d.op(0), 1);
            return true;
        }
        in.fn = cp_async;
        const Opnd& s = d.op(1);
        i64 n;
        if (!d.immediate(d.op(2), n)) d.fail("size");
        in.msize = (u8)n;
        in.o[2] = d.src(s.sub[0], 8);
        in.ext.push_back((u32)s.bits);
        if (d.nops() > 3) {
            const Opnd& x = d.op(3);
            if (x.k == Opnd::Reg && d.F.f->regs[x.reg].type == Ty::Pred) {
                bool neg;
                in.o[4] = d.pred_src(x, neg);
                in.sub3 = neg;
            } else if (d.reg_width(x) != 8)
                in.o[3] = d.src(x, 4);
        }
        address_of(d, d.op(0), 1);
        if (in.ext[0] >> 31) d.fail("negative offset");
        return true;
    }
    bool red = d.I.op == "cp.reduce" || (d.I.op == "cp" && d.has("reduce"));
    if (d.I.op == "cp" && d.has("bulk") && !d.has("tensor")) {
        if (d.has("commit_group") || d.has("wait_group") || d.has("prefetch")) {
            in.fn = nop;
            return true;
        }
        bool to_shared = !d.I.mods.empty() && (d.I.mods[red ? 3 : 2] == "shared::cluster" ||
                                               d.I.mods[red ? 3 : 2] == "shared::cta");
        bool from_global = d.I.mods[red ? 4 : 3] == "global";
        if (to_shared && !from_global) return false;
        if (red && (to_shared || d.last() != Ty::F32 || !d.has("add"))) return false;
        in.fn = bulk;
        in.sub = to_shared ? 0 : red ? 2 : 1;
        in.o[1] = d.src(d.op(0).sub[0], 8);
        in.o[2] = d.src(d.op(1).sub[0], 8);
        in.o[3] = d.src(2, 4);
        in.ext = {(u32)d.op(0).bits, (u32)d.op(1).bits, 0};
        if (to_shared) {
            in.o[4] = d.src(d.op(3).sub[0], 8);
            in.ext[2] = (u32)d.op(3).bits;
        }
        return true;
    }
    return false;
}

}  // namespace ptxemu
