// Races in global and pinned memory: between the blocks of a launch, between the work of different
// streams, and between the warps of a block.
//
// One record a 64 bytes: the last two who wrote and the last two who read, each with a mask of its
// bytes. What does not fit goes to a side table, so that neighbouring small elements of different
// blocks are no alarm and none is lost.
#pragma once
#include "kernels/ptxemu/interpreter/memory.h"
#include "kernels/ptxemu/interpreter/order.h"

namespace ptxemu {

struct Access {
    u32 op = 0, block = 0;
    u32 clock : 24, warp : 8;
    u8 flags = 0, epoch = 0;
    u64 mask = 0;  // bytes; 0: no record

    Access() : clock(0), warp(0) {}
    bool same_block(const Access& o) const {
        return op == o.op && block == o.block && epoch == o.epoch &&
               !((flags ^ o.flags) & kStrongAccess);
    }
    bool same_warp(const Access& o) const {
        return same_block(o) && clock == o.clock && warp == o.warp;
    }
    bool strong() const { return flags & kStrongAccess; }

    static constexpr u8 kStrongAccess = 1;  // atomic or volatile
    static constexpr u8 kMixed = 2;         // of several warps: `clock` is that of the last
    static constexpr u8 kWrite = 4;         // in the side table
};

struct Granule {
    static constexpr u64 kBytes = 64;
    Access write[2], read[2];
    bool more() const { return write[0].flags & kMore; }
    static constexpr u8 kMore = 128;  // in write[0].flags: there is something in the side table
};

// Null where addresses have no shadow, or the check is off.
inline Granule* granule_of(u64 address) {
    if (address - g_arena_lo < g_arena_hi - g_arena_lo)
        return g_shadow ? g_shadow + (address - g_arena_lo) / Granule::kBytes : nullptr;
    if (address - g_pinned_lo < g_pinned_hi - g_pinned_lo)
        return g_pinned_shadow ? g_pinned_shadow + (address - g_pinned_lo) / Granule::kBytes
                               : nullptr;
    return nullptr;
}

// Says whether a write of these lanes leaves the memory as it is: two such writes are no race.
class SameValue {
  public:
    SameValue() = default;
    template <class F>
    explicit SameValue(F& f)
        : self_(&f), call_([](void* self, u32 lanes) { return (*(F*)self)(lanes); }) {}
    bool operator()(u32 lanes) const { return call_ && call_(self_, lanes); }

  private:
    void* self_ = nullptr;
    bool (*call_)(void*, u32) = nullptr;
};

// A warp's access.
void global_read(Warp& w, const Ins& i, const u64* addresses, u32 lanes, u32 bytes);
void global_write(Warp& w, const Ins& i, const u64* addresses, u32 lanes, u32 bytes, u32 clock,
                  SameValue same);
// One thread's access of any size.
void global_range(Warp& w, const Ins& i, int lane, u64 address, u64 bytes, bool write);
// Work outside the kernels.
void global_range(u64 address, u64 bytes, bool write, const OrderedOp& op);

}  // namespace ptxemu
