// Reports of faults, and the process-wide options.
#pragma once
#include "kernels/ptxemu/interpreter/core.h"

namespace ptxemu {

struct Options {
    bool check = true, race = true, race_warp = true, race_global = true, init = true,
         stats = false, print_stats = false, poison = true, quiet = false;
    bool trace = false, global_init = false, leaks = false, async = false, exit_ok = false;
    u64 sched = 0;
    int threads = 1, max_reports = 20, exit_code = 86, cc = 0, devices = 1, driver = 13000;
    u64 mem_bytes = 0;
    std::string device;      // a profile's key
    std::string stats_json;  // file
};
const Options& opt();

enum class Fault : u8 {
    Oob,
    SharedOob,
    Misaligned,
    Uninit,
    Barrier,
    AsyncRead,
    Race,
    WarpRace,
    GlobalRace,
    Leak,
    WarpSync,
    Local,
    Other,
    Unsupported
};
// Prints a report once per (kind, kernel, line). Returns true if it was a new one.
bool report(Fault f, Warp* w, const Ins* i, int lane, u64 addr, bool have_addr,
            const std::string& what);
[[noreturn]] void unsupported(const std::string& what);
int report_count();
void at_end(void (*check)());  // a check that runs before the process ends, and may report
std::string where(const Ins* i);
std::string thread_name(Warp& w, int lane);
std::string demangle(const std::string& s);

}  // namespace ptxemu
