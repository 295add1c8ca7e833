#include "kernels/ptxemu/interpreter/report.h"

#include <cxxabi.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <tuple>

#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/stats.h"

namespace ptxemu {

static u64 env_int(const char* n, u64 def) {
    const char* s = getenv(n);
    return s && *s ? strtoull(s, nullptr, 0) : def;
}

const Options& opt() {
    static const Options& o = *new Options([] {  // outlives every destructor
        Options r;
        r.check = env_int("PTXEMU_CHECK", 1);
        r.race = r.check && env_int("PTXEMU_RACE", 1);
        r.race_warp = r.check && env_int("PTXEMU_RACE_WARP", 1);
        r.race_global = r.check && env_int("PTXEMU_RACE_GLOBAL", 1);
        r.init = r.check && env_int("PTXEMU_INIT", 1);
        if (const char* file = getenv("PTXEMU_STATS_JSON")) r.stats_json = file;
        r.print_stats = env_int("PTXEMU_STATS", 0);
        r.stats = r.print_stats || !r.stats_json.empty();
        r.poison = env_int("PTXEMU_POISON", 1);
        r.quiet = env_int("PTXEMU_QUIET", 0);
        r.global_init = env_int("PTXEMU_GLOBAL_INIT", 0);
        r.leaks = env_int("PTXEMU_LEAKS", 0);
        r.exit_ok = env_int("PTXEMU_EXIT_OK", 0);
        r.async = env_int("PTXEMU_ASYNC", 0);
        r.trace = env_int("PTXEMU_TRACE", 0);
        r.sched = env_int("PTXEMU_SCHED", 0);
        r.threads = (int)env_int("PTXEMU_THREADS", 1);
        r.max_reports = (int)env_int("PTXEMU_MAX_REPORTS", 20);
        r.exit_code = (int)env_int("PTXEMU_EXITCODE", 86);
        r.cc = (int)env_int("PTXEMU_CC", 0);
        if (const char* d = getenv("PTXEMU_DEVICE")) r.device = d;
        r.devices = (int)env_int("PTXEMU_DEVICES", 1);
        r.driver = (int)env_int("PTXEMU_DRIVER", 13000);
        r.mem_bytes = env_int("PTXEMU_MEM_MB", 0) << 20;
        return r;
    }());
    return o;
}

namespace {
std::mutex mu;
int count = 0, shown = 0;
auto& seen = *new std::set<std::tuple<int, const void*, int>>;

const char* name(Fault f) {
    switch (f) {
        case Fault::Oob:
            return "OUT-OF-BOUNDS GLOBAL";
        case Fault::SharedOob:
            return "OUT-OF-BOUNDS SHARED";
        case Fault::Misaligned:
            return "MISALIGNED";
        case Fault::Uninit:
            return "UNINITIALISED";
        case Fault::Barrier:
            return "BARRIER DIVERGENCE";
        case Fault::AsyncRead:
            return "ASYNC COPY";
        case Fault::Race:
            return "SHARED RACE";
        case Fault::WarpRace:
            return "WARP RACE";
        case Fault::GlobalRace:
            return "GLOBAL RACE";
        case Fault::Leak:
            return "LEAK";
        case Fault::WarpSync:
            return "WARP SYNC";
        case Fault::Local:
            return "LOCAL MEMORY";
        case Fault::Unsupported:
            return "UNSUPPORTED";
        default:
            return "FAULT";
    }
}
// A fault anywhere makes the program fail at its end, whatever it thinks.
auto& end_checks = *new std::vector<void (*)()>;
struct AtEnd {
    ~AtEnd() {
        for (auto check : end_checks) check();
        if (opt().print_stats) print_stats();
        if (!opt().stats_json.empty()) write_stats(opt().stats_json);
        if (!count) return;
        fprintf(stderr, "ptxemu: %d fault%s reported\n", count, count == 1 ? "" : "s");
        fflush(nullptr);
        if (opt().exit_code) _exit(opt().exit_code);
    }
} at_end;
}  // namespace

void at_end(void (*check)()) { end_checks.push_back(check); }

int report_count() { return count; }

std::string demangle(const std::string& s) {
    int st = 0;
    char* d = abi::__cxa_demangle(s.c_str(), nullptr, nullptr, &st);
    std::string r = st == 0 && d ? d : s;
    free(d);
    return r;
}

std::string where(const Ins* i) {
    if (!i || !i->src) return "?";
    std::string s = "PTX line " + std::to_string(i->src->line) + " [" + i->src->text() + "]";
    return s;
}

std::string thread_name(Warp& w, int lane) {
    const Launch& L = *w.blk->L;
    u32 t = w.id * 32 + (u32)lane;
    u32 x = t % L.block.x, y = t / L.block.x % L.block.y, z = t / L.block.x / L.block.y;
    char b[160];
    snprintf(b, sizeof b, "block (%u,%u,%u) thread (%u,%u,%u)", w.blk->cta[0], w.blk->cta[1],
             w.blk->cta[2], x, y, z);
    return b;
}

bool report(Fault f, Warp* w, const Ins* i, int lane, u64 addr, bool have_addr,
            const std::string& what) {
    std::lock_guard l(mu);
    if (!seen.insert({(int)f, (const void*)i, 0}).second) return false;
    ++count;
    if (shown++ >= opt().max_reports) return true;
    std::string s = "ptxemu: " + std::string(name(f)) + ": " + what + "\n";
    if (w) {
        const Program& p = *w->blk->L->prog;
        s += "ptxemu:   kernel " + demangle(p.entry->name) + ", " + thread_name(*w, lane) + "\n";
        s += "ptxemu:   " + where(i);
        if (have_addr) {
            char b[40];
            snprintf(b, sizeof b, ", address 0x%llx", (unsigned long long)addr);
            s += b;
        }
        if (i && i->src && i->src->loc_line) {
            auto& files = p.mod->ast->files;
            auto it = files.find(i->src->loc_file);
            s += ", source " + (it == files.end() ? "?" : it->second) + ":" +
                 std::to_string(i->src->loc_line);
        }
        if (i && i->fi && i->fi->f != p.entry) s += ", in function " + demangle(i->fi->f->name);
        s += "\n";
    }
    fflush(stdout);
    fputs(s.c_str(), stderr);
    return true;
}

void unsupported(const std::string& what) {
    fflush(stdout);
    fprintf(stderr, "ptxemu: UNSUPPORTED: %s\n", what.c_str());
    fflush(nullptr);
    _exit(87);
}

}  // namespace ptxemu
