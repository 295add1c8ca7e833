#include "train/device.h"

#include <sched.h>

#include <algorithm>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"

namespace lathe {
namespace {

int usable_processors() {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

std::unique_ptr<Backend> make_backend(const DeviceConfig& config, int local_ranks, bool overlap) {
    if (config.device == DeviceKind::reference) {
        return make_reference_backend();
    }
    const int threads = config.threads > 0 ? static_cast<int>(config.threads)
                                           : std::max(1, usable_processors() / local_ranks);
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
