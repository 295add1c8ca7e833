// Shared state of the runtime API files.
#pragma once
#include <cuda_runtime_api.h>

#include <mutex>
#include <set>

#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/fatbin.h"
#include "kernels/ptxemu/interpreter/memory.h"
#include "kernels/ptxemu/interpreter/report.h"
#include "kernels/ptxemu/runtime/api_lock.h"
#include "kernels/ptxemu/runtime/stream.h"

namespace ptxemu {

struct FatModule {
    std::vector<FatEntry> entries;
    std::unique_ptr<Module> mod;
    const FatEntry* ptx = nullptr;  // of mod
    std::vector<struct VarRec*> vars;
};
struct KernelRec {
    FatModule* fm = nullptr;
    std::string name;
    Program* prog = nullptr;
    int max_dyn_shared = 48 * 1024;
    int carveout = -1;     // preferred, in percent
    std::string readable;  // name
    const char* label() {
        if (readable.empty()) readable = demangle(name);
        return readable.c_str();
    }
};
struct VarRec {
    FatModule* fm;
    std::string name;
    size_t size;
    void** managed;
};

cudaError_t set_error(cudaError_t e);  // remembers it as the thread's last error
cudaError_t sticky_error();
void set_sticky(cudaError_t e);
KernelRec* kernel_of(const void* func);  // host function or kernel handle
Program* program_of(KernelRec& k);
int newest_ptx();  // in the program: 80, 90, ...; 0: none
std::string ptx_text(FatModule& f);
std::vector<const FatEntry*> machine_code(const FatModule& f);
// Blocks of `threads` threads that an SM holds at once.
int resident_blocks(KernelRec& k, int threads, size_t dynamic_shared);
// cudaSuccess, or why such a launch fails.
cudaError_t launch_limits(KernelRec& k, dim3 grid, dim3 block, size_t shared, bool cooperative);
cudaError_t launch_kernel(KernelRec& k, dim3 grid, dim3 block, void** args, size_t shared,
                          bool coop, Stream& stream);
u64 symbol_address(const void* symbol, size_t* size);

bool live_use(const MemoryUse& use);  // or a report: that is no device memory (any more)
void check_use(const MemoryUse& use, const Work& by);  // the same, and races with other streams
bool& inside_host_function();                          // of this thread
cudaError_t no_device();                               // why there is none, if there is none
cudaError_t not_permitted();                           // and a report
std::set<cudaEvent_t>& live_events();
void report_leaks();

#define PTXEMU_API_BEGIN                                                    \
    std::lock_guard<ptxemu::ApiLock> api_lock_guard(ptxemu::api_lock());    \
    if (ptxemu::inside_host_function()) return ptxemu::not_permitted();     \
    if (ptxemu::no_device()) return ptxemu::set_error(ptxemu::no_device()); \
    if (ptxemu::sticky_error() != cudaSuccess) return ptxemu::set_error(ptxemu::sticky_error())
#define PTXEMU_STREAM(s, handle)                   \
    PTXEMU_API_BEGIN;                              \
    ptxemu::Stream* s = ptxemu::stream_of(handle); \
    if (!s) return ptxemu::set_error(cudaErrorInvalidResourceHandle)
// The same function under the name that programs built with --default-stream per-thread call.
#define PTXEMU_ALIAS(name, suffix) \
    extern "C" decltype(name) name##_##suffix __attribute__((alias(#name)));

}  // namespace ptxemu
