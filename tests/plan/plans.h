// Small plans for tests.
#pragma once

#include "plan/dry_run.h"
#include "tests/support/small_runs.h"

namespace lathe::testing {

/// A CPU whose rates are round numbers: 1e9 FLOP/s and bytes/s a core.
inline Hardware plain_cpu(int64_t cores = 4) {
    Hardware hardware;
    hardware.name = "plain";
    hardware.target = "cpu";
    hardware.cores = cores;
    hardware.memory_bytes = int64_t{1} << 34;
    hardware.memory_bytes_per_second = 1e9 * static_cast<double>(cores);
    hardware.f32_flops = 1e9 * static_cast<double>(cores);
    hardware.bf16_flops = 1e9 * static_cast<double>(cores);
    hardware.within_node = {.bytes_per_second = 1e9, .latency_s = 1e-6};
    hardware.between_nodes = {.bytes_per_second = 1e8, .latency_s = 1e-5};
    hardware.host = {.bytes_per_second = 1e9, .latency_s = 0.0};
    return hardware;
}

}  // namespace lathe::testing
