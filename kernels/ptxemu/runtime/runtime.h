// Shared state of the runtime API files.
#pragma once
#include <cuda_runtime_api.h>

#include <mutex>

#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/fatbin.h"
#include "kernels/ptxemu/interpreter/memory.h"
#include "kernels/ptxemu/interpreter/report.h"
#include "kernels/ptxemu/runtime/stream.h"

namespace ptxemu {

struct FatModule {
    std::vector<FatEntry> entries;
    std::unique_ptr<Module> mod;
    std::vector<struct VarRec*> vars;
};
struct KernelRec {
    FatModule* fm = nullptr;
    std::string name;
    Program* prog = nullptr;
    int max_dyn_shared = 48 * 1024;
};
struct VarRec {
    FatModule* fm;
    std::string name;
    size_t size;
    void** managed;
};

std::recursive_mutex& api_lock();
cudaError_t set_error(cudaError_t e);  // remembers it as the thread's last error
cudaError_t sticky_error();
void set_sticky(cudaError_t e);
KernelRec* kernel_of(const void* func);  // host function or kernel handle
Program* program_of(KernelRec& k);
int device_cc();  // 80, 90, ...
size_t shared_optin();
cudaError_t launch_kernel(KernelRec& k, dim3 grid, dim3 block, void** args, size_t shared,
                          bool coop, cudaStream_t stream);
u64 symbol_address(const void* symbol, size_t* size);

#define PTXEMU_API_BEGIN                                                      \
    std::lock_guard<std::recursive_mutex> api_lock_guard(ptxemu::api_lock()); \
    if (ptxemu::sticky_error() != cudaSuccess) return ptxemu::set_error(ptxemu::sticky_error())

}  // namespace ptxemu
