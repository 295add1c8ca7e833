// Device memory: one arena, an allocation table with red zones, and registered host ranges.
#pragma once
#include "kernels/ptxemu/interpreter/core.h"
#include "kernels/ptxemu/interpreter/order.h"

namespace ptxemu {

enum class AllocKind : u8 { Device, Host, Registered, Managed, Variable };

struct Alloc {
    u64 lo = 0, hi = 0;
    AllocKind kind = AllocKind::Device;
    bool freed = false;
    std::string name;
    u32 born = 0;             // operation that allocated it in a stream's order
    std::vector<u32> users;   // last operation of each stream that touched it
    std::vector<void*> site;  // where it was allocated (PTXEMU_LEAKS=1)
};

// 0 if there is no room
u64 mem_alloc(u64 bytes, AllocKind kind, const std::string& name = "", u32 born = 0);
// `by`: the operation that frees it in a stream's order: a report where it does not come after
// every use.
bool mem_free(u64 addr, const OrderedOp* by = nullptr);
// An operation touches the live allocation at `addr`: a report where it does not come after the
// allocation.
void mem_use(u64 addr, const OrderedOp& op);
void mem_register(u64 addr, u64 bytes, AllocKind kind);  // host memory visible to kernels
bool mem_unregister(u64 addr);
bool mem_find(u64 addr, Alloc& out);           // the live allocation holding addr
std::string mem_describe(u64 addr, u64 size);  // words for a report
u64 mem_used();                                // of the device
void mem_report_leaks();

bool is_device(u64 addr);  // inside the arena
u8* host_view(u64 addr);   // where the emulator may touch this device or registered address

extern u64 g_delta;  // host view = device address + g_delta
extern u64 g_arena_lo, g_arena_hi;
extern u64 g_pinned_lo, g_pinned_hi;                // pinned host memory
extern struct Granule *g_shadow, *g_pinned_shadow;  // of the two (global_shadow.h); null when off

// Checked access from a kernel: pointer to use, or a report and an abort.
u8* global_slow(Warp& w, const Ins& i, int lane, u64 addr, u32 size);
inline u8* global(Warp& w, const Ins& i, int lane, u64 addr, u32 size) {
    AllocCache& c = w.wk->cache[((u64)&i / sizeof(Ins)) & 255];
    if (__builtin_expect(addr >= c.lo && addr + size <= c.hi, 1))
        return (u8*)(addr + (addr - g_arena_lo < g_arena_hi - g_arena_lo ? g_delta : 0));
    return global_slow(w, i, lane, addr, size);
}
u64 mem_epoch();  // changes with every alloc/free; caches are dropped between launches

// Which words of device memory were ever written (PTXEMU_GLOBAL_INIT=1): one byte a 4-byte word,
// null when off.
extern u8* g_init;
void mark_init(u64 addr, u64 bytes);
void uninit_read(Warp& w, const Ins& i, int lane, u64 addr);
inline void check_init(Warp& w, const Ins& i, int lane, u64 a, u32 n) {
    if (a - g_arena_lo >= g_arena_hi - g_arena_lo) return;
    for (u64 k = (a - g_arena_lo) / 4; k <= (a + n - 1 - g_arena_lo) / 4; ++k)
        if (!g_init[k]) {
            uninit_read(w, i, lane, a);
            return;
        }
}
inline void set_init(u64 a, u32 n) {
    if (a - g_arena_lo >= g_arena_hi - g_arena_lo) return;
    for (u64 k = (a - g_arena_lo) / 4; k <= (a + n - 1 - g_arena_lo) / 4; ++k) g_init[k] = 1;
}

}  // namespace ptxemu
