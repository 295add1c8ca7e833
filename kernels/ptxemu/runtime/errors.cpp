// The errors of the run-time API: of a thread, of the device, their names.
#include "kernels/ptxemu/runtime/runtime.h"

namespace ptxemu {
namespace {
thread_local cudaError_t last_error = cudaSuccess;
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
}
