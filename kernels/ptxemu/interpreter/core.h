// The machine model: instructions after decoding, warps, blocks, launches.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>

#include "kernels/ptxemu/interpreter/order.h"
#include "kernels/ptxemu/interpreter/parser.h"
#include "kernels/ptxemu/interpreter/types.h"

namespace ptxemu {

struct Warp;
struct Block;
struct Ins;
struct Worker;
class Shadow;
struct BlockOrder;

// What a handler tells the warp loop.
enum Ctl : u8 {
    Next,      // go on with pc+1
    Jumped,    // groups were changed; look again
    WaitWarp,  // lanes named by the instruction are elsewhere: wait for them at this pc
    WaitBar,   // parked at a block barrier
    Yield      // done, but let other warps run
};
using Fn = Ctl (*)(Warp&, const Ins&, u32 mask);

enum class Cls : u8 {
    Int,
    Float,
    Half,
    Double,
    Special,
    Cvt,
    Move,
    Ctrl,
    LdGlobal,
    StGlobal,
    LdShared,
    StShared,
    Local,
    Param,
    Atomic,
    Sync,
    Warp,
    Async,
    Mma,
    Count
};
const char* cls_name(Cls c);

struct Ins {
    Fn fn = nullptr;
    u32 o[6] = {};  // byte offsets into the warp's register file
    u32 guard = 0;  // offset of the guard predicate, 0: none
    bool guard_neg = false;
    u8 n = 1;  // vector length
    u8 space = 0;
    u8 msize = 0;                              // bytes of one memory element
    u8 sub = 0, sub2 = 0, sub3 = 0, sub4 = 0;  // handler's own
    u8 order = 0;                              // kStrong, kAcquire, kRelease (block_order.h)
    Cls cls = Cls::Int;
    i64 imm = 0;               // address offset or branch target
    std::vector<u32> ext;      // more operands
    std::vector<u32> targets;  // brx
    const PInstr* src = nullptr;
    const struct FuncImage* fi = nullptr;
};

// Where a device function lives inside a program.
struct FuncImage {
    const PFunc* f = nullptr;
    u32 entry_pc = 0, end_pc = 0;
    u32 ret_pc_slot = 0;
    std::vector<u32> reg_off;
    std::unordered_map<std::string, u32>
        local_off;  // local + param variables, per-lane buffer offset
    std::vector<u32> param_off, ret_off;
};

struct Module;

struct Special {
    int id;
    u32 off;
};  // special register kept in a slot
enum SpecialId {
    SpTidX,
    SpTidY,
    SpTidZ,
    SpNtidX,
    SpNtidY,
    SpNtidZ,
    SpCtaX,
    SpCtaY,
    SpCtaZ,
    SpNctaX,
    SpNctaY,
    SpNctaZ,
    SpLane,
    SpWarp,
    SpNwarp,
    SpSm,
    SpNsm,
    SpGrid,
    SpEq,
    SpLe,
    SpLt,
    SpGe,
    SpGt,
    SpDynSmem,
    SpTotalSmem,
    SpAggrSmem,
    SpZero,
    SpOne,
    SpResShared,
    SpGrid64,
    SpEnv1,
    SpEnv2,
    SpClock = 100,
    SpClock64,
    SpGlobalTimer,
    SpGlobalTimerLo,
    SpGlobalTimerHi,
    SpClockHi
};

// A kernel with everything it calls, ready to run.
struct Program {
    Module* mod = nullptr;
    const PFunc* entry = nullptr;
    std::vector<Ins> code;
    std::vector<std::unique_ptr<FuncImage>> images;
    std::vector<Special> specials;
    std::vector<std::pair<u32, std::vector<u8>>> consts;  // offset, slot bytes
    std::map<std::pair<u64, int>, u32> const_at;
    u32 reg_bytes = 0, local_bytes = 0, n_regs32 = 0;
    u32 param_bytes = 0;
    std::vector<u32> param_off, param_size;
    std::unordered_map<std::string, u32> shared_off;
    u32 static_shared = 0, dyn_align = 16;
    bool uses_shared = false;
    struct Stats* stats = nullptr;
};

constexpr u32 kSharedBase = 1024;                 // first user byte of shared memory, as on sm_80+
constexpr u64 kSharedWindow = 0x100000000000ull;  // generic address windows
constexpr u64 kLocalWindow = 0x110000000000ull;
constexpr u64 kParamWindow = 0x120000000000ull;
constexpr u64 kWindowSize = 1ull << 24;

struct Dim3 {
    u32 x = 1, y = 1, z = 1;
    u64 count() const { return (u64)x * y * z; }
};

struct Launch {
    Program* prog = nullptr;
    Dim3 grid, block;
    u32 dyn_shared = 0, shared_bytes = 0;
    u32 sms = 1;            // of the device
    u32 blocks_per_sm = 0;  // that it holds at once; for the counters
    std::vector<u8> params;
    u64 id = 0, workspace = 0;
    bool cooperative = false;
    bool check = true;
    OrderedOp ordered;                   // as an operation of its stream
    class LaunchOrder* order = nullptr;  // between its blocks; null: not checked
};

enum class GState : u8 { Ready, Sync, Bar };
struct Group {
    u32 pc, mask;
    GState st;
};

struct PendingCopy {
    u32 dst;
    u32 size;
    u32 group;
    const Ins* ins;
    alignas(16) u8 data[16];
};
struct PendingArrive {
    u32 mbar;
    u32 upto;
    bool noinc;
};  // after the first `upto` copies of the lane

constexpr int kMaxWarps = 32;

struct Warp {
    u8* R = nullptr;      // registers: [slot][32 lanes]
    u8* local = nullptr;  // per-lane local memory
    Block* blk = nullptr;
    Worker* wk = nullptr;
    u32 id = 0, init = 0, live = 0;
    Group g[33];
    int ng = 0, cur = 0;
    u32 pc = 0;
    u32 spins = 0;
    bool stick = false;  // running a group out of min-pc order for fairness
    u32 stick_left = 0;
    u32 cc = 0;              // carry flags
    u32 clock = 1;           // own race clock
    u32 vc[kMaxWarps] = {};  // what this warp knows of others
    u32 retries = 0;
    std::vector<PendingCopy> pend[32];
    std::vector<PendingArrive> parr[32];
    u32 committed[32] = {};
    u32 pend_mask = 0;  // lanes with copies under way

    template <class T>
    T* reg(u32 off) {
        return (T*)(R + off);
    }
    u32& pred(u32 off) { return *(u32*)(R + off); }
    Group& group() { return g[cur]; }
};

struct Barrier {
    u32 arrived = 0, expected = 0;
    u32 or_acc = 0, and_acc = 1, pop_acc = 0;
    bool full = false;
    struct Waiter {
        u32 warp;
        u32 mask;
        const Ins* ins;
        u32 pc;
    };
    std::vector<Waiter> waiters;
    u32 vc[kMaxWarps] = {};
};

struct BulkOp {
    u32 mbar;
    std::function<void()> deliver;
    u32 bytes;
};

struct Block {
    const Launch* L = nullptr;
    Worker* wk = nullptr;
    u32 cta[3] = {};
    u64 linear = 0;
    u8* smem = nullptr;  // kSharedBase.. kSharedBase+shared_bytes
    u32 smem_end = 0;
    std::unique_ptr<Shadow> shadow;
    std::unique_ptr<BlockOrder> order;  // null: not checked
    std::vector<std::unique_ptr<Warp>> warps;
    u32 nthreads = 0, exited = 0, nwarps = 0;
    Barrier bar[16];
    std::deque<BulkOp> bulk;
    std::unordered_map<u32, std::vector<u32>> mbar_vc;
    bool exit_reported = false;
    u64 mbar_spin = 0;
};

struct AllocCache {
    u64 lo = 1, hi = 0;
};

struct Worker {
    static constexpr u32 kKnownOps = 64;
    AllocCache cache[256];
    u32 known_ops[kKnownOps] = {};  // a cache of operations that come before this launch
    u64 instrs = 0, thread_instrs = 0;
    struct Stats* stats = nullptr;
};

// Handlers' common ways to fail.
struct LaunchAbort {
    int cudaError;
};
[[noreturn]] void abort_launch(int cudaError);

// control flow helpers (engine.cpp)
void jump_lanes(Warp& w, u32 lanes, u32 target);  // lanes of the current group go to target
void exit_lanes(Warp& w, u32 lanes);
void deliver_copies(Warp& w, u32 lane, u32 keep_groups, bool all);
bool flush_async(Block& b, u32 mbar);  // deliver async work tied to this mbarrier
void barrier_arrive(Block& b, u32 id);
void run_launch(Launch& L);

// one lane loop
template <class F>
inline void lanes(u32 m, F&& f) {
    while (m) {
        int l = __builtin_ctz(m);
        m &= m - 1;
        f(l);
    }
}

}  // namespace ptxemu
