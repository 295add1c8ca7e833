#include "train/device.h"

#include <sched.h>

#include <algorithm>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/reference/reference_backend.h"

namespace lathe {
namespace {

int usable_processors() {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

/// Launchers that give each rank its own GPU show it one device; whether ranks share one is seen
/// when they meet (parallel/nccl_communicator.h).
int cuda_device_of(const RankPlace& place) {
    const int count = count_cuda_devices();
    LATHE_CHECK_USAGE(place.local_rank < count || count == 1,
                      "device = cuda: {} ranks on host {}, which has {} GPUs: start one rank for "
                      "each GPU, or look at CUDA_VISIBLE_DEVICES",
                      place.local_size, place.host, count);
    return count == 1 ? 0 : place.local_rank;
}

DeviceKind resolved(DeviceKind wanted) {
    if (wanted != DeviceKind::automatic) {
        return wanted;
    }
    return cuda_complaint().empty() ? DeviceKind::cuda : DeviceKind::cpu;
}

}  // namespace

std::unique_ptr<Backend> make_backend(const DeviceConfig& config, const RankPlace& place,
                                      bool overlap) {
    const DeviceKind kind = resolved(config.device);
    if (kind == DeviceKind::cuda) {
        return make_cuda_backend({.device = cuda_device_of(place), .matmul = config.matmul});
    }
    LATHE_CHECK_USAGE(config.matmul == MatmulLibrary::native,
                      "matmul = cublas: is of the device cuda; use --device cuda, or leave it out");
    if (kind == DeviceKind::reference) {
        return make_reference_backend();
    }
    const int threads = config.threads > 0 ? static_cast<int>(config.threads)
                                           : std::max(1, usable_processors() / place.local_size);
    return overlap ? make_overlapping_cpu_backend(threads) : make_cpu_backend(threads);
}

DType compute_dtype(const DeviceConfig& config, const Backend& backend) {
    switch (config.dtype) {
        case ComputeDType::f32:
            return DType::f32;
        case ComputeDType::bf16:
            return DType::bf16;
        case ComputeDType::automatic:
            break;
    }
    return backend.device().preferred_dtype;
}

}  // namespace lathe
