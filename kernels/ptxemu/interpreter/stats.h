// Counters per kernel (PTXEMU_STATS=1).
#pragma once
#include <unordered_map>

#include "kernels/ptxemu/interpreter/core.h"

namespace ptxemu {

// The sectors of global memory that one launch touches, each once.
class Touched {
  public:
    void add(u64 sector, bool load) {
        u64 page = sector / 64;
        if (!last_ || page != last_page_) {
            last_ = &pages_[page];
            last_page_ = page;
        }
        (load ? last_->loaded : last_->stored) |= 1ull << (sector % 64);
    }
    void add(const Touched& o);
    u64 count(bool load) const;

  private:
    struct Page {
        u64 loaded = 0, stored = 0;
    };
    std::unordered_map<u64, Page> pages_;
    Page* last_ = nullptr;
    u64 last_page_ = 0;
};

struct Stats {
    u64 launches = 0, blocks = 0;
    u64 warp[(int)Cls::Count] = {}, thread[(int)Cls::Count] = {};
    u64 mma = 0, mma_flop = 0;
    u64 ld_req = 0, ld_bytes = 0, ld_sectors = 0, st_req = 0, st_bytes = 0, st_sectors = 0;
    u64 ld_once = 0,
        st_once = 0;  // sectors, each once a launch: what a cache without limits leaves
    Touched touched;  // of the launch under way
    u64 sh_req = 0, sh_cycles = 0, sh_ideal = 0;  // bank conflicts = cycles - ideal
    double seconds = 0;
    u32 block_threads = 0, blocks_per_sm = 0;  // of the last launch
    void global(bool load, const u64* addr, u32 mask, u32 bytes);
    void shared(const u32* addr, u32 mask, u32 bytes);
    void add(const Stats& o);
    void end_launch();
};
void print_stats();
void write_stats(const std::string& file);  // the same as JSON
Stats* stats_for(const std::string& kernel);

}  // namespace ptxemu
