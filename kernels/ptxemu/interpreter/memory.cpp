#include "kernels/ptxemu/interpreter/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "kernels/ptxemu/interpreter/report.h"

namespace ptxemu {

u64 g_delta = 0, g_arena_lo = 0, g_arena_hi = 0;
u8* g_init = nullptr;

namespace {
constexpr u64 kArenaSize = 1ull << 39;  // addresses are never used twice until it is full
constexpr u64 kRedZone = 4096;
std::recursive_mutex mu;
std::map<u64, Alloc>& table =
    *new std::map<u64, Alloc>;  // by lo; live and freed, never overlapping for arena ones
u64 bump = 0, used = 0, epoch = 1;

void start() {
    if (g_arena_lo) return;
    // The addresses that programs see are mapped without access: host code that follows a device
    // pointer faults, as on a GPU.
    void* dev = mmap((void*)0x200000000000ull, kArenaSize, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void* host = mmap(nullptr, kArenaSize, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (dev == MAP_FAILED || host == MAP_FAILED) {
        fprintf(stderr, "ptxemu: cannot reserve the device arena\n");
        _exit(87);
    }
    madvise(host, kArenaSize, MADV_DONTDUMP);
    if (opt().global_init) {
        void* p = mmap(nullptr, kArenaSize / 4, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p != MAP_FAILED) g_init = (u8*)p;
    }
    g_arena_lo = (u64)dev;
    g_arena_hi = g_arena_lo + kArenaSize;
    g_delta = (u64)host - g_arena_lo;
    bump = g_arena_lo + (2 << 20);
}

std::map<u64, Alloc>::iterator find_any(u64 a) {
    auto it = table.upper_bound(a);
    if (it == table.begin()) return table.end();
    --it;
    return a < it->second.hi ? it : table.end();
}
}  // namespace

u64 mem_total() {
    if (opt().mem_bytes) return opt().mem_bytes;
    return (u64)sysconf(_SC_PHYS_PAGES) * (u64)sysconf(_SC_PAGESIZE) / 4 * 3;
}
u64 mem_used() { return used; }
u64 mem_epoch() { return epoch; }

u64 mem_alloc(u64 bytes, AllocKind kind, const std::string& name) {
    std::lock_guard l(mu);
    start();
    if (bytes == 0) return 0;
    if (used + bytes > mem_total()) return 0;
    ++epoch;
    u64 a;
    if (kind == AllocKind::Host || kind == AllocKind::Managed) {
        u64 len = (bytes + 4095) / 4096 * 4096;
        u8* p = (u8*)mmap(nullptr, len + 8192, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) return 0;
        mprotect(p + 4096, len, PROT_READ | PROT_WRITE);
        a = (u64)p + 4096;
    } else {
        a = bump;
        u64 len = (bytes + 511) / 512 * 512 + kRedZone;
        if (a + len > g_arena_hi) return 0;
        bump += len;
        if (bytes >= (2 << 20)) bump = (bump + 4095) / 4096 * 4096;
        if (opt().poison && kind == AllocKind::Device) memset((u8*)(a + g_delta), 0xFF, bytes);
    }
    used += bytes;
    table[a] = {a, a + bytes, kind, false, name};
    if (kind == AllocKind::Variable) mark_init(a, bytes);
    return a;
}

bool mem_free(u64 addr) {
    std::lock_guard l(mu);
    auto it = table.find(addr);
    if (it == table.end() || it->second.freed) return false;
    Alloc& x = it->second;
    if (x.kind == AllocKind::Registered || x.kind == AllocKind::Variable) return false;
    ++epoch;
    used -= x.hi - x.lo;
    if (x.kind == AllocKind::Host || x.kind == AllocKind::Managed) {
        munmap((void*)(x.lo - 4096), (x.hi - x.lo + 4095) / 4096 * 4096 + 8192);
        table.erase(it);
        return true;
    }
    x.freed = true;
    u64 lo = (x.lo + 4095) / 4096 * 4096, hi = x.hi / 4096 * 4096;
    if (hi > lo) madvise((void*)(lo + g_delta), hi - lo, MADV_DONTNEED);
    return true;
}

void mem_register(u64 addr, u64 bytes, AllocKind kind) {
    std::lock_guard l(mu);
    ++epoch;
    table[addr] = {addr, addr + bytes, kind, false, ""};
}
bool mem_unregister(u64 addr) {
    std::lock_guard l(mu);
    auto it = table.find(addr);
    if (it == table.end() || it->second.kind != AllocKind::Registered) return false;
    ++epoch;
    table.erase(it);
    return true;
}

bool mem_find(u64 addr, Alloc& out) {
    std::lock_guard l(mu);
    auto it = find_any(addr);
    if (it == table.end() || it->second.freed) return false;
    out = it->second;
    return true;
}

std::string mem_describe(u64 addr, u64 size) {
    std::lock_guard l(mu);
    char b[256];
    auto say = [&](const Alloc& x, const char* rel, u64 dist) {
        snprintf(b, sizeof b, "%llu bytes %s the %s%s%s%s of %llu bytes at 0x%llx",
                 (unsigned long long)dist, rel, x.freed ? "freed " : "",
                 x.kind == AllocKind::Variable ? "variable "
                 : x.kind == AllocKind::Device ? "allocation"
                                               : "host allocation",
                 x.name.c_str(), "", (unsigned long long)(x.hi - x.lo), (unsigned long long)x.lo);
        return std::string(b);
    };
    auto it = find_any(addr);
    if (it != table.end()) {
        if (it->second.freed) return say(it->second, "inside", addr - it->second.lo);
        return say(it->second, "into the end of", addr + size - it->second.hi);
    }
    it = table.upper_bound(addr);
    bool have_next = it != table.end();
    u64 dn = have_next ? it->second.lo - addr : ~0ull;
    if (it != table.begin()) {
        auto pr = std::prev(it);
        u64 dp = addr - pr->second.hi;
        if (dp <= dn && dp < (1ull << 32)) return say(pr->second, "after", dp);
    }
    if (have_next && dn < (1ull << 32)) return say(it->second, "before", dn);
    return addr < 4096 ? "null pointer" : "near no allocation";
}

void mark_init(u64 a, u64 n) {
    if (g_init && is_device(a) && n)
        memset(g_init + (a - g_arena_lo) / 4, 1,
               (a + n - 1 - g_arena_lo) / 4 - (a - g_arena_lo) / 4 + 1);
}
void uninit_read(Warp& w, const Ins& i, int lane, u64 a) {
    report(Fault::Uninit, &w, &i, lane, a, true, "read of device memory that was never written");
}

bool is_device(u64 a) { return a - g_arena_lo < g_arena_hi - g_arena_lo && g_arena_lo; }
u8* host_view(u64 a) { return (u8*)(is_device(a) ? a + g_delta : a); }

u8* global_slow(Warp& w, const Ins& i, int lane, u64 addr, u32 size) {
    Alloc x;
    if (mem_find(addr, x) && addr + size <= x.hi) {
        w.wk->cache[((u64)&i / sizeof(Ins)) & 255] = {x.lo, x.hi};
        return host_view(addr);
    }
    report(Fault::Oob, &w, &i, lane, addr, true,
           "global access of " + std::to_string(size) +
               " bytes outside any allocation: " + mem_describe(addr, size));
    abort_launch(700);
}

}  // namespace ptxemu
