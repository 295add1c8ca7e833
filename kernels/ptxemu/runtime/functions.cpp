// Kernels' attributes, the limits of launches and occupancy, from the device's profile and the
// registers that ptxas gave.
#include <cuda_occupancy.h>

#include <algorithm>
#include <climits>
#include <cstdio>

#include "kernels/ptxemu/runtime/profile.h"
#include "kernels/ptxemu/runtime/registers.h"
#include "kernels/ptxemu/runtime/runtime.h"

using namespace ptxemu;

namespace {

constexpr int kRegistersOfAThread = 255, kThreads = 1024;
constexpr int kUnknownRegisters = 32;  // where neither machine code nor ptxas is at hand

int registers_of(KernelRec& k) {
    auto r = machine_resources(k);
    return r ? r->registers : kUnknownRegisters;
}

// A warp's registers are given out in units of 256.
int registers_of_block(int registers, int threads) {
    int warps = (threads + 31) / 32;
    return warps * ((registers * 32 + 255) / 256 * 256);
}
int threads_by_registers(int registers) {
    int threads = kThreads;
    while (threads > 32 && registers_of_block(registers, threads) > kRegistersPerSm) threads -= 32;
    return threads;
}

cudaOccDeviceProp occupancy_properties() {
    const DeviceProfile& f = device_profile();
    cudaOccDeviceProp p;
    p.computeMajor = f.capability / 10;
    p.computeMinor = f.capability % 10;
    p.maxThreadsPerBlock = kThreads;
    p.maxThreadsPerMultiprocessor = f.threads_per_sm;
    p.regsPerBlock = p.regsPerMultiprocessor = kRegistersPerSm;
    p.warpSize = 32;
    p.sharedMemPerBlock = kSharedPerBlock;
    p.sharedMemPerMultiprocessor = f.shared_per_sm;
    p.numSms = f.sms;
    p.sharedMemPerBlockOptin = f.shared_per_block;
    p.reservedSharedMemPerBlock = kReservedShared;
    return p;
}
cudaOccFuncAttributes occupancy_attributes(KernelRec& k) {
    const Program& p = *program_of(k);
    cudaOccFuncAttributes a;
    a.maxThreadsPerBlock = p.entry->maxntid ? (int)p.entry->maxntid : INT_MAX;
    a.numRegs = registers_of(k);
    a.sharedSizeBytes = p.static_shared;
    a.partitionedGCConfig = PARTITIONED_GC_OFF;
    a.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    a.maxDynamicSharedSizeBytes = (size_t)k.max_dyn_shared;
    a.numBlockBarriers = 1;
    return a;
}
cudaOccDeviceState occupancy_state(const KernelRec& k) {
    cudaOccDeviceState s;
    s.carveoutConfig = k.carveout;
    return s;
}

cudaError_t shared_limits(const KernelRec& k, const Program& p, size_t dynamic_shared) {
    size_t all = dynamic_shared + p.static_shared;
    bool opted_in = k.max_dyn_shared > (int)kSharedPerBlock;
    if (dynamic_shared > (size_t)k.max_dyn_shared || p.static_shared > kSharedPerBlock ||
        all > device_profile().shared_per_block || (!opted_in && all > kSharedPerBlock))
        return cudaErrorInvalidValue;
    return cudaSuccess;
}

}  // namespace

namespace ptxemu {

int resident_blocks(KernelRec& k, int threads, size_t dynamic_shared) {
    auto properties = occupancy_properties();
    auto attributes = occupancy_attributes(k);
    auto state = occupancy_state(k);
    cudaOccResult r;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&r, &properties, &attributes, &state, threads,
                                                dynamic_shared))
        return 0;
    return r.activeBlocksPerMultiprocessor;
}

cudaError_t launch_limits(KernelRec& k, dim3 grid, dim3 block, size_t shared, bool cooperative) {
    const Program& p = *program_of(k);
    u64 threads = (u64)block.x * block.y * block.z, blocks = (u64)grid.x * grid.y * grid.z;
    if (threads == 0 || threads > kThreads || block.z > 64 || blocks == 0 || grid.x > INT_MAX ||
        grid.y > 65535 || grid.z > 65535)
        return cudaErrorInvalidConfiguration;
    if (p.entry->maxntid && threads > p.entry->maxntid) return cudaErrorLaunchOutOfResources;
    const u32* want = p.entry->reqntid;
    if (want[0] && (block.x != want[0] || block.y != want[1] || block.z != want[2]))
        return cudaErrorInvalidValue;
    if (cudaError_t e = shared_limits(k, p, shared)) return e;
    // Only blocks that might ask for too many need the number.
    if (registers_of_block(kRegistersOfAThread, (int)threads) > kRegistersPerSm &&
        registers_of_block(registers_of(k), (int)threads) > kRegistersPerSm)
        return cudaErrorLaunchOutOfResources;
    if (cooperative &&
        blocks > (u64)resident_blocks(k, (int)threads, shared) * (u64)device_profile().sms)
        return cudaErrorCooperativeLaunchTooLarge;
    return cudaSuccess;
}

}  // namespace ptxemu

#define PTXEMU_KERNEL(k, function)                                     \
    PTXEMU_API_BEGIN;                                                  \
    KernelRec* k##_record = kernel_of(function);                       \
    if (!k##_record) return set_error(cudaErrorInvalidDeviceFunction); \
    KernelRec& k = *k##_record

extern "C" {

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, const void* f) {
    PTXEMU_KERNEL(k, f);
    const Program& p = *program_of(k);
    auto machine = machine_resources(k);
    memset(a, 0, sizeof *a);
    a->sharedSizeBytes = p.static_shared;
    a->localSizeBytes = machine ? machine->stack_bytes : p.local_bytes;
    a->numRegs = registers_of(k);
    int limit = p.entry->maxntid ? (int)p.entry->maxntid : kThreads;
    a->maxThreadsPerBlock = std::min(limit, threads_by_registers(a->numRegs));
    a->ptxVersion = p.mod->ast->target;
    a->binaryVersion = device_profile().capability;
    a->maxDynamicSharedSizeBytes = k.max_dyn_shared;
    a->preferredShmemCarveout = k.carveout;
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* f, cudaFuncAttribute what, int v) {
    PTXEMU_KERNEL(k, f);
    switch (what) {
        case cudaFuncAttributeMaxDynamicSharedMemorySize:
            if (v < 0 ||
                (size_t)v + program_of(k)->static_shared > device_profile().shared_per_block)
                return set_error(cudaErrorInvalidValue);
            k.max_dyn_shared = v;
            return cudaSuccess;
        case cudaFuncAttributePreferredSharedMemoryCarveout:
            if (v < -1 || v > 100) return set_error(cudaErrorInvalidValue);
            k.carveout = v;
            return cudaSuccess;
        default:
            return cudaSuccess;
    }
}
cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t k, cudaFuncAttribute at, int v, int) {
    return cudaFuncSetAttribute((const void*)k, at, v);
}
cudaError_t cudaFuncSetCacheConfig(const void*, cudaFuncCache) { return cudaSuccess; }
cudaError_t cudaFuncGetName(const char** n, const void* f) {
    PTXEMU_KERNEL(k, f);
    *n = k.name.c_str();
    return cudaSuccess;
}
cudaError_t cudaFuncGetParamInfo(const void* f, size_t i, size_t* off, size_t* size) {
    PTXEMU_KERNEL(k, f);
    const Program& p = *program_of(k);
    if (i >= p.param_off.size()) return set_error(cudaErrorInvalidValue);
    *off = p.param_off[i];
    if (size) *size = p.param_size[i];
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, const void* f,
                                                                   int threads, size_t shared,
                                                                   unsigned) {
    PTXEMU_KERNEL(k, f);
    if (!n || threads <= 0) return set_error(cudaErrorInvalidValue);
    *n = threads > kThreads ? 0 : resident_blocks(k, threads, shared);
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n, const void* f, int threads,
                                                          size_t shared) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(n, f, threads, shared, 0);
}
cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, const void* f, int blocks,
                                                      int threads) {
    PTXEMU_KERNEL(k, f);
    auto properties = occupancy_properties();
    auto attributes = occupancy_attributes(k);
    auto state = occupancy_state(k);
    if (cudaOccAvailableDynamicSMemPerBlock(bytes, &properties, &attributes, &state, blocks,
                                            threads))
        return set_error(cudaErrorInvalidValue);
    return cudaSuccess;
}
}
