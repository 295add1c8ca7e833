#include "kernels/ptxemu/runtime/profile.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/ptxemu/runtime/runtime.h"

namespace ptxemu {

namespace {

constexpr size_t kKiB = 1024, kMiB = 1024 * kKiB, kGiB = 1024 * kMiB;

// From NVIDIA's documents for the A100 40GB (SXM), the H100 80GB (SXM) and the GeForce RTX 4090.
const DeviceProfile kProfiles[] = {
    {"a100", "ptxemu A100-like", 80, 108, 2048, 32, 164 * kKiB, 163 * kKiB, 40 * kGiB, 40 * kMiB,
     30 * kMiB, 5120, 1410000, 1215000, 2, true},
    {"h100", "ptxemu H100-like", 90, 132, 2048, 32, 228 * kKiB, 227 * kKiB, 80 * kGiB, 50 * kMiB,
     32 * kMiB, 5120, 1980000, 2619000, 2, true},
    {"consumer", "ptxemu consumer-like", 89, 128, 1536, 24, 100 * kKiB, 99 * kKiB, 24 * kGiB,
     72 * kMiB, 49 * kMiB, 384, 2520000, 10501000, 64, false},
};

const DeviceProfile& by_key(const std::string& key) {
    std::string keys;
    for (auto& p : kProfiles) {
        if (key == p.key) return p;
        keys += std::string(keys.empty() ? "" : ", ") + p.key;
    }
    unsupported("PTXEMU_DEVICE=" + key + ": the devices are " + keys);
}

// Compute capabilities without a profile of their own get that of the most similar device.
const DeviceProfile& by_capability(int cc) {
    if (cc == 86 || cc == 89 || cc >= 120) return by_key("consumer");
    return by_key(cc >= 90 ? "h100" : "a100");
}

DeviceProfile chosen() {
    int cc = opt().cc ? opt().cc : std::max(newest_ptx(), 80);
    bool named = !opt().device.empty();
    DeviceProfile p = named ? by_key(opt().device) : by_capability(cc);
    if (!named || opt().cc) p.capability = cc;
    return p;
}

}  // namespace

const DeviceProfile& device_profile() {
    static const DeviceProfile p = chosen();
    return p;
}

size_t device_memory() { return opt().mem_bytes ? opt().mem_bytes : device_profile().memory_bytes; }

}  // namespace ptxemu
