// The devices that can be emulated (PTXEMU_DEVICE): what the run-time API says of them, and what
// limits a launch.
#pragma once
#include <cstddef>

namespace ptxemu {

struct DeviceProfile {
    const char* key;
    const char* name;
    int capability;  // 80, 90, ...
    int sms;
    int threads_per_sm, blocks_per_sm;
    size_t shared_per_sm, shared_per_block;  // shared_per_block: after opting in
    size_t memory_bytes, l2_bytes, persisting_l2_bytes;
    int bus_bits, clock_khz, memory_clock_khz;
    int double_ratio;  // f32 to f64 speed
    bool ecc;
};

constexpr int kRegistersPerSm = 65536;
constexpr size_t kReservedShared = 1024;       // of each block
constexpr size_t kSharedPerBlock = 48 * 1024;  // without opting in

// The one asked for, else the one for which the program's newest PTX is meant.
const DeviceProfile& device_profile();
size_t device_memory();  // PTXEMU_MEM_MB, or the profile's

}  // namespace ptxemu
