#include "plan/device_speed.h"

#include <algorithm>

namespace lathe {

DeviceSpeed::DeviceSpeed(const Hardware& hardware, int64_t ranks_on_node, int64_t threads)
    : hardware_(hardware) {
    if (hardware.target == "cpu") {
        const auto cores = static_cast<double>(hardware.cores);
        const auto used = static_cast<double>(threads);
        // More threads than cores make nothing faster.
        share_ = std::min(used, cores / static_cast<double>(ranks_on_node)) / cores;
        one_thread_factor_ = std::max(1.0, share_ * cores);
    }
}

double DeviceSpeed::seconds(const OperationCost& cost) const {
    const double reached = fraction(cost.operation_class, static_cast<double>(cost.extent));
    const double bandwidth = share_ * hardware_.memory_bytes_per_second;
    switch (cost.operation_class) {
        case OperationClass::matmul:
        case OperationClass::attention:
        case OperationClass::attention_backward: {
            const double peak =
                share_ * (cost.dtype == DType::bf16 ? hardware_.bf16_flops : hardware_.f32_flops);
            return std::max({cost.flops / (peak * reached), cost.bytes() / bandwidth,
                             hardware_.least_operation_s});
        }
        default:
            return std::max(cost.bytes() / (bandwidth * reached), hardware_.least_operation_s);
    }
}

double DeviceSpeed::copy_seconds(double bytes) const {
    return std::max(bytes / (share_ * hardware_.memory_bytes_per_second *
                             fraction(OperationClass::copy, bytes)),
                    hardware_.least_operation_s);
}

double DeviceSpeed::host_seconds(double bytes) const {
    return hardware_.host.latency_s + bytes / hardware_.host.bytes_per_second;
}

}  // namespace lathe
