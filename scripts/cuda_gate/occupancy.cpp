// How many blocks of a kernel a multiprocessor holds at once, by NVIDIA's own rules
// (cuda_occupancy.h), on devices that are not there. Reads lines "device registers static_bytes
// dynamic_bytes threads" (dynamic_bytes -1: all that a block may have), prints lines "blocks
// per_cent_of_the_threads".
#include <cuda_occupancy.h>
#include <fmt/core.h>

#include <cstdio>
#include <iostream>
#include <string>

#include "kernels/cuda/device_profile.h"

namespace {

using lathe::cuda::DeviceProfile;

cudaOccDeviceProp properties_of(const DeviceProfile& device) {
    cudaOccDeviceProp properties;
    properties.computeMajor = device.compute_capability / 10;
    properties.computeMinor = device.compute_capability % 10;
    properties.maxThreadsPerBlock = 1024;
    const bool is_data_centre = properties.computeMinor == 0 && properties.computeMajor < 12;
    properties.maxThreadsPerMultiprocessor = is_data_centre ? 2048 : 1536;
    properties.regsPerBlock = 65536;
    properties.regsPerMultiprocessor = 65536;
    properties.warpSize = 32;
    properties.sharedMemPerBlock = 49152;
    properties.sharedMemPerMultiprocessor =
        static_cast<size_t>(device.shared_memory_per_multiprocessor);
    properties.numSms = device.num_multiprocessors;
    properties.sharedMemPerBlockOptin = static_cast<size_t>(device.shared_memory_per_block);
    properties.reservedSharedMemPerBlock = 1024;
    return properties;
}

}  // namespace

int main() {
    std::string name;
    int registers = 0;
    size_t static_bytes = 0;
    int64_t asked_bytes = 0;
    int threads = 0;
    while (std::cin >> name >> registers >> static_bytes >> asked_bytes >> threads) {
        const cudaOccDeviceProp properties = properties_of(lathe::cuda::profile_of(name));
        const size_t dynamic_bytes = asked_bytes < 0
                                         ? properties.sharedMemPerBlockOptin - static_bytes
                                         : static_cast<size_t>(asked_bytes);
        cudaOccFuncAttributes kernel;
        kernel.maxThreadsPerBlock = threads;
        kernel.numRegs = registers;
        kernel.sharedSizeBytes = static_bytes;
        kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
        kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        kernel.maxDynamicSharedSizeBytes = dynamic_bytes;
        cudaOccDeviceState state;
        cudaOccResult result;
        const cudaOccError status = cudaOccMaxActiveBlocksPerMultiprocessor(
            &result, &properties, &kernel, &state, threads, dynamic_bytes);
        if (status != CUDA_OCC_SUCCESS) {
            fmt::print(stderr, "occupancy: {}: cuda_occupancy.h says error {}\n", name,
                       static_cast<int>(status));
            return 1;
        }
        const int blocks = result.activeBlocksPerMultiprocessor;
        fmt::print("{} {:.0f}\n", blocks,
                   100.0 * blocks * threads / properties.maxThreadsPerMultiprocessor);
    }
    return 0;
}
