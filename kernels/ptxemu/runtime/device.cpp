// Devices and what can be asked of them; all of it comes from the device's profile.
#include <cstdio>
#include <cstdlib>

#include "kernels/ptxemu/runtime/profile.h"
#include "kernels/ptxemu/runtime/runtime.h"

using namespace ptxemu;

namespace {

thread_local int device = 0;

cudaDeviceProp properties(int d) {
    const DeviceProfile& f = device_profile();
    cudaDeviceProp p;
    memset(&p, 0, sizeof p);
    snprintf(p.name, sizeof p.name, "%s", f.name);
    snprintf(p.uuid.bytes, sizeof p.uuid.bytes, "ptxemu %d", d);
    p.totalGlobalMem = device_memory();
    p.sharedMemPerBlock = kSharedPerBlock;
    p.sharedMemPerMultiprocessor = f.shared_per_sm;
    p.sharedMemPerBlockOptin = f.shared_per_block;
    p.reservedSharedMemPerBlock = kReservedShared;
    p.regsPerBlock = p.regsPerMultiprocessor = kRegistersPerSm;
    p.warpSize = 32;
    p.memPitch = 2147483647;
    p.maxThreadsPerBlock = 1024;
    p.maxThreadsPerMultiProcessor = f.threads_per_sm;
    p.maxBlocksPerMultiProcessor = f.blocks_per_sm;
    p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
    p.maxThreadsDim[2] = 64;
    p.maxGridSize[0] = 2147483647;
    p.maxGridSize[1] = p.maxGridSize[2] = 65535;
    p.totalConstMem = 65536;
    p.major = f.capability / 10;
    p.minor = f.capability % 10;
    p.textureAlignment = 512;
    p.texturePitchAlignment = 32;
    p.multiProcessorCount = f.sms;
    p.asyncEngineCount = 2;
    p.memoryBusWidth = f.bus_bits;
    p.l2CacheSize = (int)f.l2_bytes;
    p.persistingL2CacheMaxSize = (int)f.persisting_l2_bytes;
    p.ECCEnabled = f.ecc;
    p.clusterLaunch = f.capability >= 90;
    p.canMapHostMemory = p.unifiedAddressing = p.managedMemory = p.concurrentManagedAccess = 1;
    p.concurrentKernels = p.cooperativeLaunch = p.memoryPoolsSupported = p.hostRegisterSupported =
        1;
    p.streamPrioritiesSupported = p.globalL1CacheSupported = p.localL1CacheSupported =
        p.computePreemptionSupported = 1;
    p.canUseHostPointerForRegisteredMem = 1;
    p.pciBusID = d + 1;
    return p;
}

int attribute(cudaDeviceAttr a, const cudaDeviceProp& p) {
    const DeviceProfile& f = device_profile();
    switch (a) {
        // clang-format off
        case cudaDevAttrMaxThreadsPerBlock: return p.maxThreadsPerBlock;
        case cudaDevAttrMaxBlockDimX: return p.maxThreadsDim[0];
        case cudaDevAttrMaxBlockDimY: return p.maxThreadsDim[1];
        case cudaDevAttrMaxBlockDimZ: return p.maxThreadsDim[2];
        case cudaDevAttrMaxGridDimX: return p.maxGridSize[0];
        case cudaDevAttrMaxGridDimY: return p.maxGridSize[1];
        case cudaDevAttrMaxGridDimZ: return p.maxGridSize[2];
        case cudaDevAttrMaxSharedMemoryPerBlock: return (int)p.sharedMemPerBlock;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: return (int)p.sharedMemPerBlockOptin;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return (int)p.sharedMemPerMultiprocessor;
        case cudaDevAttrReservedSharedMemoryPerBlock: return (int)p.reservedSharedMemPerBlock;
        case cudaDevAttrTotalConstantMemory: return (int)p.totalConstMem;
        case cudaDevAttrWarpSize: return p.warpSize;
        case cudaDevAttrMaxPitch: return (int)p.memPitch;
        case cudaDevAttrMaxRegistersPerBlock: return p.regsPerBlock;
        case cudaDevAttrMaxRegistersPerMultiprocessor: return p.regsPerMultiprocessor;
        case cudaDevAttrClockRate: return f.clock_khz;
        case cudaDevAttrMemoryClockRate: return f.memory_clock_khz;
        case cudaDevAttrGlobalMemoryBusWidth: return p.memoryBusWidth;
        case cudaDevAttrL2CacheSize: return p.l2CacheSize;
        case cudaDevAttrMaxPersistingL2CacheSize: return p.persistingL2CacheMaxSize;
        case cudaDevAttrMultiProcessorCount: return p.multiProcessorCount;
        case cudaDevAttrMaxThreadsPerMultiProcessor: return p.maxThreadsPerMultiProcessor;
        case cudaDevAttrMaxBlocksPerMultiprocessor: return p.maxBlocksPerMultiProcessor;
        case cudaDevAttrComputeCapabilityMajor: return p.major;
        case cudaDevAttrComputeCapabilityMinor: return p.minor;
        case cudaDevAttrSingleToDoublePrecisionPerfRatio: return f.double_ratio;
        case cudaDevAttrTextureAlignment: return (int)p.textureAlignment;
        case cudaDevAttrEccEnabled: return p.ECCEnabled;
        case cudaDevAttrClusterLaunch: return p.clusterLaunch;
        case cudaDevAttrPciBusId: return p.pciBusID;
        case cudaDevAttrAsyncEngineCount: return p.asyncEngineCount;
        case cudaDevAttrUnifiedAddressing:
        case cudaDevAttrManagedMemory:
        case cudaDevAttrConcurrentManagedAccess:
        case cudaDevAttrCooperativeLaunch:
        case cudaDevAttrConcurrentKernels:
        case cudaDevAttrMemoryPoolsSupported:
        case cudaDevAttrCanMapHostMemory:
        case cudaDevAttrHostRegisterSupported:
        case cudaDevAttrCanUseHostPointerForRegisteredMem:
        case cudaDevAttrStreamPrioritiesSupported:
        case cudaDevAttrGlobalL1CacheSupported:
        case cudaDevAttrLocalL1CacheSupported:
        case cudaDevAttrComputePreemptionSupported: return 1;
        default: return 0;
            // clang-format on
    }
}

}  // namespace

extern "C" {

cudaError_t cudaDeviceReset() { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* v) {
    *v = opt().driver;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* v) {
    *v = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* n) {
    if (no_device()) return set_error(no_device());
    *n = opt().devices;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int* d) {
    *d = device;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int d) {
    if (no_device()) return set_error(no_device());
    if (d < 0 || d >= opt().devices) return set_error(cudaErrorInvalidDevice);
    device = d;
    return set_error(sticky_error());
}
cudaError_t cudaInitDevice(int d, unsigned, unsigned) {
    return d < opt().devices ? cudaSuccess : set_error(cudaErrorInvalidDevice);
}
cudaError_t cudaSetDeviceFlags(unsigned) { return cudaSuccess; }
cudaError_t cudaGetDeviceFlags(unsigned* f) {
    *f = 0;
    return cudaSuccess;
}
cudaError_t cudaDeviceSetLimit(cudaLimit, size_t) { return cudaSuccess; }
cudaError_t cudaDeviceGetLimit(size_t* v, cudaLimit) {
    *v = 8 << 20;
    return cudaSuccess;
}
cudaError_t cudaDeviceSetCacheConfig(cudaFuncCache) { return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int* lo, int* hi) {
    if (lo) *lo = 0;
    if (hi) *hi = -5;
    return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* v, int a, int b) {
    *v = a != b;
    return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
cudaError_t cudaDeviceDisablePeerAccess(int) { return cudaSuccess; }
cudaError_t cudaDeviceGetPCIBusId(char* s, int n, int d) {
    PTXEMU_API_BEGIN;
    if (d < 0 || d >= opt().devices) return set_error(cudaErrorInvalidDevice);
    if (!s || n < 13) return set_error(cudaErrorInvalidValue);
    snprintf(s, (size_t)n, "0000:%02X:00.0", d + 1);
    return cudaSuccess;
}
cudaError_t cudaDeviceGetByPCIBusId(int* d, const char* s) {
    PTXEMU_API_BEGIN;
    unsigned domain, bus, slot, function;
    if (!d || !s || sscanf(s, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4 || bus < 1 ||
        (int)bus > opt().devices)
        return set_error(cudaErrorInvalidValue);
    *d = (int)bus - 1;
    return cudaSuccess;
}
cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }
cudaError_t cudaCtxResetPersistingL2Cache() { return cudaSuccess; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int d) {
    PTXEMU_API_BEGIN;
    if (!p) return set_error(cudaErrorInvalidValue);
    if (d < 0 || d >= opt().devices) return set_error(cudaErrorInvalidDevice);
    *p = properties(d);
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int d) {
    PTXEMU_API_BEGIN;
    if (!v) return set_error(cudaErrorInvalidValue);
    if (d < 0 || d >= opt().devices) return set_error(cudaErrorInvalidDevice);
    *v = attribute(a, properties(d));
    return cudaSuccess;
}

cudaError_t cudaStreamGetDevice(cudaStream_t, int* d) {
    *d = device;
    return cudaSuccess;
}

void* ptxemu_driver_entry(const char* name);
cudaError_t cudaGetDriverEntryPointByVersion(const char* s, void** f, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* st) {
    *f = ptxemu_driver_entry(s);
    if (st) *st = *f ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPoint(const char* s, void** f, unsigned long long fl,
                                    cudaDriverEntryPointQueryResult* st) {
    return cudaGetDriverEntryPointByVersion(s, f, 13000, fl, st);
}
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t*, void*) {
    return set_error(cudaErrorNotSupported);
}
cudaError_t cudaIpcOpenMemHandle(void**, cudaIpcMemHandle_t, unsigned) {
    return set_error(cudaErrorNotSupported);
}
cudaError_t cudaIpcCloseMemHandle(void*) { return set_error(cudaErrorNotSupported); }
}

// Programs built with --default-stream per-thread call these names.
PTXEMU_ALIAS(cudaStreamGetDevice, ptsz);
PTXEMU_ALIAS(cudaGetDriverEntryPointByVersion, ptsz);
extern "C" cudaError_t cudaGetDriverEntryPoint_ptsz(const char* s, void** f, unsigned long long fl,
                                                    cudaDriverEntryPointQueryResult* st) {
    return cudaGetDriverEntryPointByVersion(s, f, 13000, fl, st);
}
