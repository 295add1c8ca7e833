#include "kernels/ptxemu/interpreter/memory.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "kernels/ptxemu/interpreter/global_shadow.h"
#include "kernels/ptxemu/interpreter/report.h"

namespace ptxemu {

u64 g_delta = 0, g_arena_lo = 0, g_arena_hi = 0;
u64 g_pinned_lo = 0, g_pinned_hi = 0;
Granule *g_shadow = nullptr, *g_pinned_shadow = nullptr;
u8* g_init = nullptr;

namespace {
constexpr u64 kArenaSize = 1ull << 40;  // addresses are never used twice
constexpr u64 kPinnedSize = 1ull << 38;
constexpr u64 kRedZone = 4096, kPage = 4096;
std::recursive_mutex mu;
std::map<u64, Alloc>& table =
    *new std::map<u64, Alloc>;  // by lo; live and freed, never overlapping for arena ones
u64 bump = 0, pinned_bump = 0, epoch = 1;
u64 used[2];  // of the device, of the host

bool on_host(AllocKind k) { return k == AllocKind::Host || k == AllocKind::Managed; }

// What the emulator may really use.
u64 host_limit() { return (u64)sysconf(_SC_PHYS_PAGES) * (u64)sysconf(_SC_PAGESIZE) / 4 * 3; }

void* reserve(u64 bytes, int protection, u64 at = 0) {
    void* p =
        mmap((void*)at, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr,
                "ptxemu: cannot reserve %llu GiB of addresses (a limit on virtual memory?)\n",
                (unsigned long long)(bytes >> 30));
        _exit(87);
    }
    madvise(p, bytes, MADV_DONTDUMP);
    return p;
}
constexpr int kReadWrite = PROT_READ | PROT_WRITE;

void start() {
    if (g_arena_lo) return;
    // The addresses that programs see are mapped without access: host code that follows a device
    // pointer faults, as on a GPU.
    g_arena_lo = (u64)reserve(kArenaSize, PROT_NONE, 0x200000000000ull);
    g_arena_hi = g_arena_lo + kArenaSize;
    g_delta = (u64)reserve(kArenaSize, kReadWrite) - g_arena_lo;
    g_pinned_lo = (u64)reserve(kPinnedSize, PROT_NONE);
    g_pinned_hi = g_pinned_lo + kPinnedSize;
    if (opt().global_init) g_init = (u8*)reserve(kArenaSize / 4, kReadWrite);
    if (opt().race_global) {
        g_shadow = (Granule*)reserve(kArenaSize / Granule::kBytes * sizeof(Granule), kReadWrite);
        g_pinned_shadow =
            (Granule*)reserve(kPinnedSize / Granule::kBytes * sizeof(Granule), kReadWrite);
    }
    bump = g_arena_lo + (2 << 20);
    pinned_bump = g_pinned_lo + kPage;
}

u64 pages(u64 bytes) { return (bytes + kPage - 1) / kPage * kPage; }

u64 allocate_pinned(u64 bytes) {
    u64 a = pinned_bump;
    if (a + pages(bytes) + kPage > g_pinned_hi || mprotect((void*)a, pages(bytes), kReadWrite))
        return 0;
    pinned_bump += pages(bytes) + kPage;  // and a page without access
    return a;
}

u64 allocate_device(u64 bytes) {
    u64 a = bump, len = (bytes + 511) / 512 * 512 + kRedZone;
    if (a + len > g_arena_hi) return 0;
    bump += len;
    if (bytes >= (2 << 20)) bump = pages(bump);
    return a;
}

// Gives the memory behind whole pages back.
void forget(u64 lo, u64 hi) {
    lo = pages(lo);
    hi = hi / kPage * kPage;
    if (hi > lo) madvise((void*)lo, hi - lo, MADV_DONTNEED);
}

std::vector<void*> call_site() {
    std::vector<void*> frames(opt().leaks ? 12 : 0);
    if (opt().leaks) frames.resize((size_t)backtrace(frames.data(), (int)frames.size()));
    return frames;
}

// The innermost function outside this library.
std::string describe_site(const std::vector<void*>& frames) {
    Dl_info own, caller;
    if (!dladdr((void*)&describe_site, &own)) return "";
    for (void* f : frames) {
        if (!dladdr(f, &caller) || caller.dli_fbase == own.dli_fbase) continue;
        char at[40];
        snprintf(at, sizeof at, "+0x%llx", (unsigned long long)((u64)f - (u64)caller.dli_fbase));
        return std::string(", allocated in ") +
               (caller.dli_sname ? demangle(caller.dli_sname) + " of " : "") + caller.dli_fname +
               at;
    }
    return "";
}

void report_order(const OrderedOp& op, u64 addr, const std::string& what) {
    std::string s = order().name(op.id) + what;
    report(Fault::GlobalRace, nullptr, (const Ins*)std::hash<std::string>{}(s), 0, addr, true, s);
}

std::map<u64, Alloc>::iterator find_any(u64 a) {
    auto it = table.upper_bound(a);
    if (it == table.begin()) return table.end();
    --it;
    return a < it->second.hi ? it : table.end();
}
}  // namespace

u64 mem_used() { return used[0]; }
u64 mem_epoch() { return epoch; }

u64 mem_alloc(u64 bytes, AllocKind kind, const std::string& name, u32 born) {
    std::lock_guard l(mu);
    start();
    if (bytes == 0 || used[0] + used[1] + bytes > host_limit()) return 0;
    bool host = on_host(kind);
    u64 a = host ? allocate_pinned(bytes) : allocate_device(bytes);
    if (!a) return 0;
    if (opt().poison && kind == AllocKind::Device) memset((u8*)(a + g_delta), 0xFF, bytes);
    ++epoch;
    used[host] += bytes;
    table[a] = {a, a + bytes, kind, false, name, born, {}, call_site()};
    if (kind == AllocKind::Variable) mark_init(a, bytes);
    return a;
}

bool mem_free(u64 addr, const OrderedOp* by) {
    std::lock_guard l(mu);
    auto it = table.find(addr);
    if (it == table.end() || it->second.freed) return false;
    Alloc& x = it->second;
    if (x.kind == AllocKind::Registered || x.kind == AllocKind::Variable) return false;
    for (u32 user : x.users)
        if (by && opt().race_global && !order().before(user, *by->knows))
            report_order(*by, addr,
                         " frees memory that " + order().name(user) +
                             " may still use: no event, wait or order of the stream in between");
    ++epoch;
    used[on_host(x.kind)] -= x.hi - x.lo;
    if (Granule* g = granule_of(x.lo))
        forget((u64)g, (u64)granule_of(x.lo) + (x.hi - x.lo) / Granule::kBytes * sizeof(Granule));
    if (on_host(x.kind)) {
        forget(x.lo, x.lo + pages(x.hi - x.lo));
        mprotect((void*)x.lo, pages(x.hi - x.lo), PROT_NONE);
        table.erase(it);
        return true;
    }
    x.freed = true;
    x.users = {};
    forget(x.lo + g_delta, x.hi + g_delta);
    return true;
}

void mem_report_leaks() {
    std::lock_guard l(mu);
    for (auto& [a, x] : table) {
        if (x.freed || x.kind == AllocKind::Variable || x.name == "kernel malloc") continue;
        const char* kind = x.kind == AllocKind::Registered ? "registered memory"
                           : on_host(x.kind)               ? "pinned memory"
                                                           : "device memory";
        report(Fault::Leak, nullptr, (const Ins*)a, 0, a, true,
               std::to_string(x.hi - x.lo) + " bytes of " + kind + " were never freed" +
                   describe_site(x.site));
    }
}

void mem_use(u64 addr, const OrderedOp& op) {
    std::lock_guard l(mu);
    auto it = find_any(addr);
    if (it == table.end() || it->second.freed || !opt().race_global) return;
    Alloc& x = it->second;
    if (x.born && !order().before(x.born, *op.knows) && x.born != op.id)
        report_order(op, addr,
                     " uses memory that was allocated on another stream: no event, wait or order "
                     "of the stream in between");
    for (u32& user : x.users)
        if (order().same_stream(user, op.id)) {
            user = op.id;
            return;
        }
    x.users.push_back(op.id);
}

void mem_register(u64 addr, u64 bytes, AllocKind kind) {
    std::lock_guard l(mu);
    ++epoch;
    table[addr] = {addr, addr + bytes, kind, false, "", 0, {}, call_site()};
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
        mem_use(addr, w.blk->L->ordered);
        w.wk->cache[((u64)&i / sizeof(Ins)) & 255] = {x.lo, x.hi};
        return host_view(addr);
    }
    report(Fault::Oob, &w, &i, lane, addr, true,
           "global access of " + std::to_string(size) +
               " bytes outside any allocation: " + mem_describe(addr, size));
    abort_launch(700);
}

}  // namespace ptxemu
