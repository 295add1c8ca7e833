// Counters per kernel (PTXEMU_STATS=1).
#pragma once
#include "kernels/ptxemu/interpreter/core.h"

namespace ptxemu {

struct Stats {
    u64 launches = 0, blocks = 0;
    u64 warp[(int)Cls::Count] = {}, thread[(int)Cls::Count] = {};
    u64 mma = 0, mma_flop = 0;
    u64 ld_req = 0, ld_bytes = 0, ld_sectors = 0, st_req = 0, st_bytes = 0, st_sectors = 0;
    u64 sh_req = 0, sh_cycles = 0, sh_ideal = 0;  // bank conflicts = cycles - ideal
    double seconds = 0;
    u32 block_threads = 0, blocks_per_sm = 0;  // of the last launch
    void global(bool load, const u64* addr, u32 mask, u32 bytes);
    void shared(const u32* addr, u32 mask, u32 bytes);
    void add(const Stats& o);
};
void print_stats();
void write_stats(const std::string& file);  // the same as JSON
Stats* stats_for(const std::string& kernel);

}  // namespace ptxemu
