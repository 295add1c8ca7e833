// Devices and errors.
#include <cstdio>
#include <cstdlib>

#include "kernels/ptxemu/runtime/runtime.h"

namespace ptxemu {
namespace {
thread_local cudaError_t last_error = cudaSuccess;
thread_local int device = 0;
cudaError_t sticky = cudaSuccess;
}  // namespace
cudaError_t set_error(cudaError_t e) {
    if (e) last_error = e;
    return e;
}
cudaError_t sticky_error() { return sticky; }
cudaError_t no_device() {
    if (opt().driver < CUDART_VERSION / 1000 * 1000) return cudaErrorInsufficientDriver;
    return opt().devices ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t not_permitted() {
    report(Fault::Other, nullptr, nullptr, 0, 0, false, "a host function called the CUDA API");
    return set_error(cudaErrorNotPermitted);
}
void set_sticky(cudaError_t e) {
    sticky = e;
    last_error = e;
}
}  // namespace ptxemu

using namespace ptxemu;

namespace {
struct ErrName {
    cudaError_t e;
    const char *name, *text;
};
const ErrName names[] = {
#define E(n, t) \
    { n, #n, t }
    E(cudaSuccess, "no error"),
    E(cudaErrorInvalidValue, "invalid argument"),
    E(cudaErrorMemoryAllocation, "out of memory"),
    E(cudaErrorInitializationError, "initialization error"),
    E(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    E(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    E(cudaErrorInvalidSymbol, "invalid device symbol"),
    E(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    E(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    E(cudaErrorInvalidDeviceFunction, "invalid device function"),
    E(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    E(cudaErrorInvalidDevice, "invalid device ordinal"),
    E(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device"),
    E(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    E(cudaErrorNotReady, "device not ready"),
    E(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    E(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    E(cudaErrorLaunchTimeout, "the launch timed out and was terminated"),
    E(cudaErrorAssert, "device-side assert triggered"),
    E(cudaErrorHostMemoryAlreadyRegistered,
      "part or all of the requested memory range is already mapped"),
    E(cudaErrorHostMemoryNotRegistered,
      "pointer does not correspond to a registered memory region"),
    E(cudaErrorMisalignedAddress, "misaligned address"),
    E(cudaErrorLaunchFailure, "unspecified launch failure"),
    E(cudaErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch"),
    E(cudaErrorNotSupported, "operation not supported"),
    E(cudaErrorNotPermitted, "operation not permitted"),
    E(cudaErrorPeerAccessAlreadyEnabled, "peer access is already enabled"),
    E(cudaErrorUnknown, "unknown error"),
    E(cudaErrorCudartUnloading, "driver shutting down"),
    E(cudaErrorDevicesUnavailable, "CUDA-capable device(s) is/are busy or unavailable"),
    E(cudaErrorInvalidPtx, "a PTX JIT compilation failed"),
    E(cudaErrorUnsupportedPtxVersion,
      "the provided PTX was compiled with an unsupported toolchain."),
    E(cudaErrorECCUncorrectable, "uncorrectable ECC error encountered"),
    E(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    E(cudaErrorHardwareStackError, "hardware stack error"),
    E(cudaErrorSystemNotReady, "system not yet initialized"),
    E(cudaErrorSystemDriverMismatch,
      "system has unsupported display driver / cuda driver combination"),
    E(cudaErrorCompatNotSupportedOnDevice,
      "forward compatibility was attempted on non supported HW"),
    E(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")};
}  // namespace

extern "C" {
cudaError_t cudaGetLastError() {
    cudaError_t e = last_error;
    last_error = sticky_error();
    return e;
}
cudaError_t cudaPeekAtLastError() { return last_error; }
const char* cudaGetErrorString(cudaError_t e) {
    for (auto& x : names)
        if (x.e == e) return x.text;
    return "unrecognized error code";
}
const char* cudaGetErrorName(cudaError_t e) {
    for (auto& x : names)
        if (x.e == e) return x.name;
    return "unrecognized error code";
}
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
    snprintf(s, (size_t)n, "0000:%02x:00.0", d + 1);
    return cudaSuccess;
}
cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }
cudaError_t cudaCtxResetPersistingL2Cache() { return cudaSuccess; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int d) {
    PTXEMU_API_BEGIN;
    if (d < 0 || d >= opt().devices) return set_error(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    int cc = device_cc();
    snprintf(p->name, sizeof p->name, "ptxemu sm_%d", cc);
    p->totalGlobalMem = mem_total();
    p->sharedMemPerBlock = 48 * 1024;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = 32;
    p->memPitch = 2147483647;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->totalConstMem = 65536;
    p->major = cc / 10;
    p->minor = cc % 10;
    p->textureAlignment = 512;
    p->multiProcessorCount = cc >= 90 ? 132 : 108;
    p->canMapHostMemory = p->unifiedAddressing = p->managedMemory = p->concurrentManagedAccess = 1;
    p->concurrentKernels = p->cooperativeLaunch = p->memoryPoolsSupported =
        p->hostRegisterSupported = 1;
    p->asyncEngineCount = 2;
    p->memoryBusWidth = 5120;
    p->l2CacheSize = 40 << 20;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxBlocksPerMultiProcessor = 32;
    p->sharedMemPerMultiprocessor = shared_optin() + 1024;
    p->sharedMemPerBlockOptin = shared_optin();
    p->reservedSharedMemPerBlock = 1024;
    p->streamPrioritiesSupported = p->globalL1CacheSupported = p->localL1CacheSupported = 1;
    p->pciBusID = d + 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int d) {
    cudaDeviceProp p;
    if (cudaError_t e = cudaGetDeviceProperties(&p, d)) return e;
    switch (a) {
        case cudaDevAttrMaxThreadsPerBlock:
            *v = 1024;
            break;
        case cudaDevAttrMaxBlockDimX:
        case cudaDevAttrMaxBlockDimY:
            *v = 1024;
            break;
        case cudaDevAttrMaxBlockDimZ:
            *v = 64;
            break;
        case cudaDevAttrMaxGridDimX:
            *v = 2147483647;
            break;
        case cudaDevAttrMaxGridDimY:
        case cudaDevAttrMaxGridDimZ:
            *v = 65535;
            break;
        case cudaDevAttrMaxSharedMemoryPerBlock:
            *v = 48 * 1024;
            break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            *v = (int)p.sharedMemPerBlockOptin;
            break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
            *v = (int)p.sharedMemPerMultiprocessor;
            break;
        case cudaDevAttrReservedSharedMemoryPerBlock:
            *v = 1024;
            break;
        case cudaDevAttrTotalConstantMemory:
            *v = 65536;
            break;
        case cudaDevAttrWarpSize:
            *v = 32;
            break;
        case cudaDevAttrMaxRegistersPerBlock:
        case cudaDevAttrMaxRegistersPerMultiprocessor:
            *v = 65536;
            break;
        case cudaDevAttrClockRate:
            *v = 1410000;
            break;
        case cudaDevAttrMemoryClockRate:
            *v = 1215000;
            break;
        case cudaDevAttrGlobalMemoryBusWidth:
            *v = 5120;
            break;
        case cudaDevAttrL2CacheSize:
            *v = p.l2CacheSize;
            break;
        case cudaDevAttrMultiProcessorCount:
            *v = p.multiProcessorCount;
            break;
        case cudaDevAttrMaxThreadsPerMultiProcessor:
            *v = 2048;
            break;
        case cudaDevAttrMaxBlocksPerMultiprocessor:
            *v = 32;
            break;
        case cudaDevAttrComputeCapabilityMajor:
            *v = p.major;
            break;
        case cudaDevAttrComputeCapabilityMinor:
            *v = p.minor;
            break;
        case cudaDevAttrUnifiedAddressing:
        case cudaDevAttrManagedMemory:
        case cudaDevAttrCooperativeLaunch:
        case cudaDevAttrConcurrentKernels:
        case cudaDevAttrMemoryPoolsSupported:
        case cudaDevAttrCanMapHostMemory:
        case cudaDevAttrHostRegisterSupported:
        case cudaDevAttrStreamPrioritiesSupported:
        case cudaDevAttrConcurrentManagedAccess:
            *v = 1;
            break;
        case cudaDevAttrAsyncEngineCount:
            *v = 2;
            break;
        default:
            *v = 0;
    }
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
