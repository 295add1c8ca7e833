// Order between the blocks of a launch: what one block did before a release (a fence and then an
// atomic or volatile write, or a write with .release) comes before what another does after an
// acquire of the same address (an atomic or volatile read and then a fence, or a read with
// .acquire). Within a block, barriers hand both on.
#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "kernels/ptxemu/interpreter/core.h"

namespace ptxemu {

struct SyncVariable;

// The releases of a variable that an acquire has seen: numbers in (after, upto].
struct Acquired {
    const SyncVariable* variable;
    u32 after, upto;
};
// What a block has acquired, newest first; a warp knows of it when it knows that clock of the
// acquiring warp.
struct AcquireNode {
    Acquired what;
    u32 warp, clock;
    std::shared_ptr<const AcquireNode> next;
};
using Acquires = std::shared_ptr<const AcquireNode>;
using WarpClocks = std::array<u32, kMaxWarps>;

// What a release publishes of its block.
struct Snapshot {
    u32 number;
    WarpClocks clocks;  // accesses up to these clocks come before
    Acquires acquires;
};
struct SyncVariable {
    u32 number = 0;  // of the last release
    u32 floor = 0;   // a plain strong write hides the releases up to here
    std::unordered_map<u64, std::vector<Snapshot>> releases;  // by block
};

class LaunchOrder {
  public:
    // `covered`: what the writer's fences cover. `keeps`: a read-modify-write, which lets earlier
    // releases show through.
    void release(Warp& w, u64 address, const WarpClocks& covered, bool keeps);
    // Nothing to see: upto == after.
    Acquired look(u64 address);
    // Has this warp, by way of acquires, come after `clock` of a warp of `block`?
    bool known(Warp& w, u64 block, u32 warp, u32 clock);

  private:
    using Seen = std::unordered_map<const SyncVariable*, u32>;
    bool search(const Acquired& a, u64 block, u32 warp, u32 clock, Seen& seen);

    std::mutex mutex_;
    std::unordered_map<u64, SyncVariable> variables_;
    std::atomic<bool> any_{false};
};

// A warp's fences.
struct WarpOrder {
    bool fenced = false;
    WarpClocks covered{};           // by fences so far
    std::vector<Acquired> pending;  // seen, and waiting for a fence
};

// A block's part; barriers join the warps' states.
struct BlockOrder {
    std::vector<WarpOrder> warps;
    WarpOrder arriving[16];  // by barrier
    Acquires acquires;
    u32 releases = 0;
    bool used = false;  // nothing to do at barriers before the first fence or acquire

    void reset(u32 num_warps);
    void arrive(Warp& w, u32 barrier);
    void complete(u32 barrier, const std::vector<Warp*>& waiters);
};

// Called by the instructions.
void order_fence(Warp& w);
enum : u8 { kStrong = 1, kAcquire = 2, kRelease = 4 };  // Ins::order
// Before the memory is written. Returns the clock that stands for the write itself.
u32 order_write(Warp& w, u64 address, u8 order, bool keeps);
void order_read(Warp& w, u64 address, u8 order);  // after the memory was read

}  // namespace ptxemu
