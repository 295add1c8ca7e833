// Shared-memory checks: initialised, pending copy, races between warps and inside a warp.
//
// One record a 4-byte word; a word touched by narrower accesses is split into four byte records.
// Each record keeps the last writer and the last two reading warps with the clock of that warp.
// Warp v may touch what warp w did at clock c if v's vector clock knows w at c or later (barriers
// join the clocks).
#pragma once
#include "kernels/ptxemu/interpreter/core.h"

namespace ptxemu {

class Shadow {
  public:
    void reset(u32 bytes);
    void read(Warp& w, const Ins& i, int lane, u32 off, u32 size, bool every_lane = false);
    // old: memory before the write; now: what is written (same size). atomic: not a race with other
    // atomics
    void write(Warp& w, const Ins& i, int lane, u32 off, u32 size, const u8* old, const u8* now);
    void atomic(Warp& w, const Ins& i, int lane, u32 off, u32 size);
    void issue(Warp& w, const Ins& i, int lane, u32 off, u32 size);    // cp.async begins
    void deliver(Warp& w, int lane, u32 off, u32 size, bool tracked);  // ... ends
    void mark_init(u32 off, u32 size);

  private:
    static constexpr u8 kInit = 1, kPending = 2, kSplit = 4, kAtomic = 8, kUntracked = 16;
    static constexpr u8 kNone = 255, kAnyLane = 254;
    struct Rec {
        u32 wclk, rclk, r2clk;
        u8 ww, wl, rw, rl, r2w, r2l, flags, pad;
    };
    std::vector<Rec> word_, byte_;
    u32 bytes_ = 0;
    template <class F>
    void each(u32 off, u32 size, bool write, F&& f);
    void split(u32 wd);
    void read_one(Warp& w, const Ins& i, int lane, u32 at, Rec& r, bool every_lane);
    void write_one(Warp& w, const Ins& i, int lane, u32 at, Rec& r, bool same, bool atomic);
    void race(Warp& w, const Ins& i, int lane, u32 at, const char* what, u8 other_warp,
              u8 other_lane);
};

}  // namespace ptxemu
