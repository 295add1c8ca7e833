#include "kernels/ptxemu/interpreter/stats.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>

#include "kernels/ptxemu/interpreter/report.h"

namespace ptxemu {

void Stats::global(bool load, const u64* addr, u32 mask, u32 bytes) {
    u64 sec[128 * 2];
    int n = 0;
    lanes(mask, [&](int l) {
        for (u64 s = addr[l] / 32; s <= (addr[l] + bytes - 1) / 32; ++s) sec[n++] = s;
    });
    std::sort(sec, sec + n);
    u64 u = (u64)(std::unique(sec, sec + n) - sec);
    for (u64 k = 0; k < u; ++k) touched.add(sec[k], load);
    (load ? ld_req : st_req) += 1;
    (load ? ld_bytes : st_bytes) += (u64)__builtin_popcount(mask) * bytes;
    (load ? ld_sectors : st_sectors) += u;
}

// A request of 4-byte words over 32 banks; wide accesses go in phases of a half or a quarter warp.
void Stats::shared(const u32* addr, u32 mask, u32 bytes) {
    u32 phases = bytes <= 4 ? 1 : bytes / 4;
    u32 per = 32 / phases;
    ++sh_req;
    for (u32 p = 0; p < phases; ++p) {
        u32 words[32][8];
        u8 cnt[32] = {};
        u32 worst = 0;
        bool any = false;
        for (u32 l = p * per; l < (p + 1) * per; ++l) {
            if (!((mask >> l) & 1)) continue;
            any = true;
            for (u32 b = 0; b < std::max(1u, bytes / 4); ++b) {
                u32 wd = addr[l] / 4 + b, bank = wd & 31;
                bool seen = false;
                for (int k = 0; k < std::min<int>(cnt[bank], 8); ++k) seen |= words[bank][k] == wd;
                if (!seen) {
                    if (cnt[bank] < 8) words[bank][cnt[bank]] = wd;
                    ++cnt[bank];
                }
            }
        }
        for (u8 c : cnt) worst = std::max<u32>(worst, c);
        if (any) {
            sh_cycles += worst;
            ++sh_ideal;
        }
    }
}

void Stats::add(const Stats& o) {
    for (int k = 0; k < (int)Cls::Count; ++k) {
        warp[k] += o.warp[k];
        thread[k] += o.thread[k];
    }
    blocks += o.blocks;
    mma += o.mma;
    mma_flop += o.mma_flop;
    ld_req += o.ld_req;
    ld_bytes += o.ld_bytes;
    ld_sectors += o.ld_sectors;
    st_req += o.st_req;
    st_bytes += o.st_bytes;
    st_sectors += o.st_sectors;
    sh_req += o.sh_req;
    sh_cycles += o.sh_cycles;
    sh_ideal += o.sh_ideal;
    touched.add(o.touched);
}

void Stats::end_launch() {
    ld_once += touched.count(true);
    st_once += touched.count(false);
    touched = {};
}

void Touched::add(const Touched& o) {
    for (auto& [page, bits] : o.pages_) {
        pages_[page].loaded |= bits.loaded;
        pages_[page].stored |= bits.stored;
    }
}

u64 Touched::count(bool load) const {
    u64 n = 0;
    for (auto& [page, bits] : pages_)
        n += (u64)__builtin_popcountll(load ? bits.loaded : bits.stored);
    return n;
}

namespace {
std::map<std::string, Stats>& all = *new std::map<std::string, Stats>;  // outlives every destructor
std::mutex mu;
}  // namespace
Stats* stats_for(const std::string& k) {
    std::lock_guard l(mu);
    return &all[k];
}

void print_stats() {
    for (auto& [name, s] : all) {
        if (!s.launches) continue;
        u64 wi = 0, ti = 0;
        for (int k = 0; k < (int)Cls::Count; ++k) {
            wi += s.warp[k];
            ti += s.thread[k];
        }
        fprintf(stderr,
                "ptxemu-stats kernel %s: launches %llu blocks %llu warp-instr %llu thread-instr "
                "%llu time %.3f s (%.1f M thread-instr/s)\n",
                demangle(name).c_str(), (unsigned long long)s.launches,
                (unsigned long long)s.blocks, (unsigned long long)wi, (unsigned long long)ti,
                s.seconds, s.seconds > 0 ? ti / s.seconds / 1e6 : 0.0);
        fprintf(stderr, "  warp-instr by class:");
        for (int k = 0; k < (int)Cls::Count; ++k)
            if (s.warp[k])
                fprintf(stderr, " %s %llu", cls_name((Cls)k), (unsigned long long)s.warp[k]);
        fprintf(stderr, "\n  mma %llu (%.3f Gflop)\n", (unsigned long long)s.mma, s.mma_flop / 1e9);
        auto mem = [](const char* n, u64 req, u64 bytes, u64 sec) {
            if (req)
                fprintf(stderr,
                        "  %s: requests %llu bytes %llu sectors %llu (%.2f per request, efficiency "
                        "%.1f%%)\n",
                        n, (unsigned long long)req, (unsigned long long)bytes,
                        (unsigned long long)sec, (double)sec / req, 100.0 * bytes / (32.0 * sec));
        };
        mem("global loads", s.ld_req, s.ld_bytes, s.ld_sectors);
        mem("global stores", s.st_req, s.st_bytes, s.st_sectors);
        if (s.sh_req)
            fprintf(stderr,
                    "  shared: requests %llu wavefronts %llu ideal %llu bank conflicts %llu\n",
                    (unsigned long long)s.sh_req, (unsigned long long)s.sh_cycles,
                    (unsigned long long)s.sh_ideal, (unsigned long long)(s.sh_cycles - s.sh_ideal));
    }
}

// One object a kernel. Sectors have 32 bytes: what moves between the caches and the SMs.
void write_stats(const std::string& file) {
    FILE* out = fopen(file.c_str(), "w");
    if (!out) {
        fprintf(stderr, "ptxemu: cannot write PTXEMU_STATS_JSON=%s\n", file.c_str());
        return;
    }
    const char* separator = "[";
    for (auto& [name, s] : all) {
        if (!s.launches) continue;
        std::string readable;
        for (char c : demangle(name))
            readable += (c == '"' || c == '\\') ? std::string{'\\', c} : std::string{c};
        fprintf(out, "%s\n{\"kernel\": \"%s\"", separator, readable.c_str());
        separator = ",";
        auto number = [&](const char* key, u64 v) {
            fprintf(out, ", \"%s\": %llu", key, (unsigned long long)v);
        };
        number("launches", s.launches);
        number("blocks", s.blocks);
        number("block_threads", s.block_threads);
        number("blocks_per_sm", s.blocks_per_sm);
        number("mma", s.mma);
        number("mma_flops", s.mma_flop);
        number("global_load_requests", s.ld_req);
        number("global_load_bytes", s.ld_bytes);
        number("global_load_sectors", s.ld_sectors);
        number("global_load_sectors_once", s.ld_once);
        number("global_store_requests", s.st_req);
        number("global_store_bytes", s.st_bytes);
        number("global_store_sectors", s.st_sectors);
        number("global_store_sectors_once", s.st_once);
        number("shared_requests", s.sh_req);
        number("shared_wavefronts", s.sh_cycles);
        number("shared_bank_conflicts", s.sh_cycles - s.sh_ideal);
        fprintf(out, ", \"warp_instructions\": {");
        for (int k = 0; k < (int)Cls::Count; ++k)
            fprintf(out, "%s\"%s\": %llu", k ? ", " : "", cls_name((Cls)k),
                    (unsigned long long)s.warp[k]);
        fprintf(out, "}}");
    }
    fprintf(out, "%s\n]\n", *separator == '[' ? "[" : "");
    fclose(out);
}

}  // namespace ptxemu
