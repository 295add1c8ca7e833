// What kernels are chosen by: the sizes of a CUDA device, as plain numbers, so that a dry run can
// stand for a device that is not there.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/operations.h"

namespace lathe {

/// Who computes Matmul: Lathe's own kernels, or NVIDIA's cuBLASLt.
enum class MatmulLibrary { native, cublas };

}  // namespace lathe

namespace lathe::cuda {

struct DeviceProfile {
    int compute_capability = 80;  ///< 10 major + minor
    int num_multiprocessors = 108;
    int64_t shared_memory_per_block = 166912;  ///< bytes, with opt-in
    int64_t shared_memory_per_multiprocessor = 167936;
    MatmulLibrary matmul = MatmulLibrary::native;
};

/// "a100", "h100", "rtx4090", "rtx5090": published sizes of well-known devices. Throws UsageError
/// that lists the names for another.
DeviceProfile profile_of(std::string_view device);

/// What the operation's workspace must hold on such a device; see Backend::workspace_bytes.
#define LATHE_CUDA_DECLARE_WORKSPACE(Operation) \
    int64_t workspace_bytes(const Operation& op, const DeviceProfile& device);
LATHE_OPERATIONS(LATHE_CUDA_DECLARE_WORKSPACE)
#undef LATHE_CUDA_DECLARE_WORKSPACE

}  // namespace lathe::cuda
