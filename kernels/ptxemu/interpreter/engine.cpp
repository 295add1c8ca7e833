// Running grids: blocks schedule warps, launches schedule blocks.
#include "kernels/ptxemu/interpreter/engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "kernels/ptxemu/interpreter/block_order.h"
#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/memory.h"
#include "kernels/ptxemu/interpreter/report.h"
#include "kernels/ptxemu/interpreter/shadow.h"
#include "kernels/ptxemu/interpreter/stats.h"

namespace ptxemu {

void abort_launch(int e) { throw LaunchAbort{e}; }

// ------------------------------------------------------------------ blocks

namespace {
class BlockRun {
  public:
    BlockRun(const Launch& L, Worker& wk) : L_(L) {
        Program& p = *L.prog;
        u32 nt = (u32)L.block.count(), nw = (nt + 31) / 32;
        b_.L = &L;
        b_.wk = &wk;
        b_.nthreads = nt;
        b_.nwarps = nw;
        b_.smem_end = kSharedBase + L.shared_bytes;
        smem_.resize(L.shared_bytes + 256);
        b_.smem = (u8*)(((u64)smem_.data() + 127) / 128 * 128);
        if (L.check && L.shared_bytes) b_.shadow = std::make_unique<Shadow>();
        if (L.order) b_.order = std::make_unique<BlockOrder>();
        regs_.resize((size_t)p.reg_bytes * nw + 64);
        u8* base = (u8*)(((u64)regs_.data() + 63) / 64 * 64);
        local_.resize((size_t)p.local_bytes * 32 * nw + 64);
        u8* lbase = (u8*)(((u64)local_.data() + 15) / 16 * 16);
        for (u32 k = 0; k < nw; ++k) {
            auto w = std::make_unique<Warp>();
            w->R = base + (size_t)p.reg_bytes * k;
            w->local = lbase + (size_t)p.local_bytes * 32 * k;
            w->blk = &b_;
            w->wk = &wk;
            w->id = k;
            w->init = nt - k * 32 >= 32 ? ~0u : (1u << (nt - k * 32)) - 1;
            for (auto& [off, img] : p.consts) memcpy(w->R + off, img.data(), img.size());
            b_.warps.push_back(std::move(w));
        }
    }

    void start(u64 linear, u64 seed) {
        b_.linear = linear;
        b_.cta[0] = (u32)(linear % L_.grid.x);
        b_.cta[1] = (u32)(linear / L_.grid.x % L_.grid.y);
        b_.cta[2] = (u32)(linear / L_.grid.x / L_.grid.y);
        b_.exited = 0;
        b_.exit_reported = false;
        b_.bulk.clear();
        b_.mbar_vc.clear();
        for (auto& x : b_.bar) x = Barrier{};
        if (opt().poison && L_.check)
            memset(b_.smem, 0xFF, L_.shared_bytes);
        else
            memset(b_.smem, 0, L_.shared_bytes);
        if (b_.shadow) b_.shadow->reset(L_.shared_bytes);
        if (b_.order) b_.order->reset(b_.nwarps);
        for (auto& w : b_.warps) {
            w->live = w->init;
            w->ng = 1;
            w->cur = 0;
            w->g[0] = {L_.prog->images[0]->entry_pc, w->init, GState::Ready};
            w->spins = 0;
            w->stick = false;
            w->clock = 1;
            memset(w->vc, 0, sizeof w->vc);
            w->pend_mask = 0;
            for (int l = 0; l < 32; ++l) {
                w->pend[l].clear();
                w->parr[l].clear();
                w->committed[l] = 0;
            }
            specials(*w);
        }
        rng_.seed(seed);
        idle_ = 0;
        order_.resize(b_.nwarps);
        for (u32 k = 0; k < b_.nwarps; ++k) order_[k] = k;
    }

    // true when the block has finished
    bool slice(u64 budget) {
        Worker& wk = *b_.wk;
        u64 stop = wk.instrs + budget;
        for (;;) {
            if (opt().sched) std::shuffle(order_.begin(), order_.end(), rng_);
            u32 finished = 0, blocked = 0;
            u64 before = wk.instrs;
            for (u32 k : order_) {
                Warp& w = *b_.warps[k];
                if (w.ng == 0) {
                    ++finished;
                    continue;
                }
                u64 q = opt().sched ? 1 + rng_() % 200 : 1000;
                Stop s = wk.stats ? run_warp<true>(w, q) : run_warp<false>(w, q);
                if (s == Stop::Finished)
                    ++finished;
                else if (s == Stop::Blocked)
                    ++blocked;
            }
            if (finished == b_.nwarps) return true;
            if (finished + blocked == b_.nwarps) {
                bool any = false;
                for (auto& w : b_.warps)
                    for (int k = 0; k < w->ng; ++k) any |= w->g[k].st == GState::Ready;
                if (!any) {
                    if (wk.instrs == before || ++idle_ > 2) deadlock();
                } else
                    idle_ = 0;
            } else
                idle_ = 0;
            if (wk.instrs >= stop) return false;
        }
    }
    Block& block() { return b_; }

  private:
    const Launch& L_;
    Block b_;
    std::vector<u8> smem_, regs_, local_;
    std::vector<u32> order_;
    std::mt19937_64 rng_;
    int idle_ = 0;

    [[noreturn]] void deadlock() {
        for (auto& w : b_.warps)
            for (int k = 0; k < w->ng; ++k) {
                Group& g = w->g[k];
                const Ins& in = L_.prog->code[g.pc];
                bool bar = in.src->op == "bar" || in.src->op == "barrier";
                bool sync = bar && in.src->mods.size() && in.src->mods[0] == "warp";
                char m[64];
                snprintf(m, sizeof m, " (lanes %08x of %08x still running)", g.mask, w->live);
                report(bar && !sync ? Fault::Barrier : Fault::WarpSync, w.get(), &in,
                       __builtin_ctz(g.mask), 0, false,
                       (g.st == GState::Sync
                            ? "lanes wait at a collective instruction that the others never reach"
                            : "threads wait at a barrier that the others never reach") +
                           std::string(m));
            }
        abort_launch(719);
    }

    void specials(Warp& w) {
        const Dim3 &bd = L_.block, &gd = L_.grid;
        for (auto& s : L_.prog->specials)
            for (u32 l = 0; l < 32; ++l) {
                u32 t = w.id * 32 + l, v = 0;
                switch (s.id) {
                    case SpTidX:
                        v = t % bd.x;
                        break;
                    case SpTidY:
                        v = t / bd.x % bd.y;
                        break;
                    case SpTidZ:
                        v = t / bd.x / bd.y;
                        break;
                    case SpNtidX:
                        v = bd.x;
                        break;
                    case SpNtidY:
                        v = bd.y;
                        break;
                    case SpNtidZ:
                        v = bd.z;
                        break;
                    case SpCtaX:
                        v = b_.cta[0];
                        break;
                    case SpCtaY:
                        v = b_.cta[1];
                        break;
                    case SpCtaZ:
                        v = b_.cta[2];
                        break;
                    case SpNctaX:
                        v = gd.x;
                        break;
                    case SpNctaY:
                        v = gd.y;
                        break;
                    case SpNctaZ:
                        v = gd.z;
                        break;
                    case SpLane:
                        v = l;
                        break;
                    case SpWarp:
                        v = w.id;
                        break;
                    case SpNwarp:
                        v = b_.nwarps;
                        break;
                    case SpSm:
                        v = (u32)(b_.linear % L_.sms);
                        break;
                    case SpNsm:
                        v = L_.sms;
                        break;
                    case SpEq:
                        v = 1u << l;
                        break;
                    case SpLe:
                        v = (2u << l) - 1;
                        break;
                    case SpLt:
                        v = (1u << l) - 1;
                        break;
                    case SpGe:
                        v = ~((1u << l) - 1);
                        break;
                    case SpGt:
                        v = ~((2u << l) - 1);
                        break;
                    case SpDynSmem:
                        v = L_.dyn_shared;
                        break;
                    case SpTotalSmem:
                    case SpAggrSmem:
                        v = L_.shared_bytes;
                        break;
                    case SpOne:
                        v = 1;
                        break;
                    case SpEnv1:
                        v = (u32)(L_.workspace >> 32);
                        break;
                    case SpEnv2:
                        v = (u32)L_.workspace;
                        break;
                    case SpResShared:
                        v = kSharedBase;
                        break;
                    case SpGrid64:
                        w.reg<u64>(s.off)[l] = L_.id;
                        continue;
                    default:
                        break;
                }
                w.reg<u32>(s.off)[l] = v;
            }
    }
};
}  // namespace

// ------------------------------------------------------------------ launches

void run_launch(Launch& L) {
    Program& p = *L.prog;
    u64 nt = L.block.count();
    if (nt == 0 || nt > 1024 || L.block.z > 64 || L.grid.count() == 0 || L.grid.y > 65535 ||
        L.grid.z > 65535)
        abort_launch(9);
    L.shared_bytes = p.static_shared + L.dyn_shared;
    L.check = opt().check;
    LaunchOrder launch_order;
    L.order = opt().race_global ? &launch_order : nullptr;
    const u64 total = L.grid.count();
    std::atomic<u64> next_block{0};
    std::atomic<int> error{0};
    std::atomic<u64> blocks_done{0};
    Stats* st = opt().stats ? stats_for(p.entry->name) : nullptr;
    auto t0 = std::chrono::steady_clock::now();
    std::mutex stat_mu;

    auto work = [&] {
        auto wkp = std::make_unique<Worker>();
        Worker& wk = *wkp;
        Stats local;
        if (st) wk.stats = &local;
        std::vector<std::unique_ptr<BlockRun>> active, pool;
        const size_t max_resident = L.cooperative ? (size_t)total : 64;
        const u64 budget = L.cooperative ? 20000 : 1000000;
        try {
            for (;;) {
                bool started = false;
                while (!error && (active.empty() || started || active.size() < max_resident)) {
                    if (!active.empty() && !L.cooperative && started) break;
                    u64 k = next_block.fetch_add(1);
                    if (k >= total) break;
                    std::unique_ptr<BlockRun> r;
                    if (!pool.empty()) {
                        r = std::move(pool.back());
                        pool.pop_back();
                    } else
                        r = std::make_unique<BlockRun>(L, wk);
                    r->start(k, opt().sched * 1000003 + L.id * 7919 + k);
                    active.push_back(std::move(r));
                    started = true;
                    if (active.size() >= max_resident) break;
                }
                if (active.empty() || error) break;
                for (size_t k = active.size(); k-- > 0;) {
                    if (active[k]->slice(budget)) {
                        pool.push_back(std::move(active[k]));
                        active.erase(active.begin() + (long)k);
                        ++blocks_done;
                    }
                }
            }
        } catch (LaunchAbort& a) {
            error = a.cudaError;
        }
        if (st) {
            std::lock_guard l(stat_mu);
            st->add(local);
        }
    };
    int n = L.cooperative
                ? 1
                : std::max(1, std::min<int>(opt().threads, (int)std::min<u64>(total, 64)));
    std::vector<std::thread> ts;
    for (int k = 1; k < n; ++k) ts.emplace_back(work);
    work();
    for (auto& t : ts) t.join();
    if (st) {
        st->end_launch();
        st->launches++;
        st->block_threads = (u32)nt;
        st->blocks_per_sm = L.blocks_per_sm;
        st->blocks += blocks_done;
        st->seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - t0).count();
    }
    if (error) abort_launch(error);
}

}  // namespace ptxemu
