// Which GPUs this process can use, and why none.
#include "kernels/cuda/cuda_device.h"

#include "kernels/cuda/cuda_backend.h"

namespace lathe::cuda {
namespace {

constexpr const char* kCannot = "device cuda: no GPU can be used: ";

/// "13.0" for 13000.
std::string version_text(int version) {
    return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

/// CUDA gives one error for no driver and for an old one.
std::string driver_complaint() {
    int driver = 0;
    static_cast<void>(cudaDriverGetVersion(&driver));
    if (driver == 0) {
        return fmt::format(
            "{}there is no NVIDIA driver; install one that serves CUDA {} and look at nvidia-smi, "
            "or use --device cpu",
            kCannot, CUDART_VERSION / 1000);
    }
    return fmt::format(
        "{}the NVIDIA driver serves CUDA {} and this lathe was built with {}; install a newer "
        "driver, or use --device cpu",
        kCannot, version_text(driver), version_text(CUDART_VERSION));
}

}  // namespace

int compute_capability(int device) {
    int major = 0;
    int minor = 0;
    CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    return 10 * major + minor;
}

std::string capability_complaint(int device) {
    const int capability = compute_capability(device);
    if (capability >= kOldestComputeCapability) {
        return "";
    }
    return fmt::format(
        "device cuda: GPU {} has compute capability {}.{}, and 8.0 or newer is needed (Ampere and "
        "later); use another, or --device cpu",
        device, capability / 10, capability % 10);
}

}  // namespace lathe::cuda

namespace lathe {

std::string cuda_complaint() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);  // untouched without a driver
    static_cast<void>(cudaGetLastError());
    switch (status) {
        case cudaErrorInsufficientDriver:
            return cuda::driver_complaint();
        case cudaSuccess:
            if (count > 0) {
                return cuda::capability_complaint(0);
            }
            [[fallthrough]];
        case cudaErrorNoDevice:
            return fmt::format(
                "{}the NVIDIA driver shows none; look at nvidia-smi and at CUDA_VISIBLE_DEVICES, "
                "or use --device cpu",
                cuda::kCannot);
        default:
            return fmt::format("{}{} ({}); look at nvidia-smi and dmesg, or use --device cpu",
                               cuda::kCannot, cudaGetErrorString(status), cudaGetErrorName(status));
    }
}

int count_cuda_devices() {
    const std::string complaint = cuda_complaint();
    LATHE_CHECK_USAGE(complaint.empty(), "{}", complaint);
    int count = 0;
    CUDA_CHECK(cudaGetDeviceCount(&count));
    return count;
}

}  // namespace lathe
