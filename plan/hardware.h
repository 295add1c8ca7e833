// Hardware: what a plan knows of the machines that are to run it, read from a TOML file.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/device_profile.h"
#include "kernels/operation_cost.h"

namespace lathe {

/// A way between devices, in one direction, as one device sees it while all use it.
struct Link {
    double bytes_per_second = 0.0;
    double latency_s = 0.0;  ///< of one message
};

/// What share of a peak is reached, by the operation's extent: straight lines over its logarithm
/// between the given points, and level beyond them.
class AchievableFraction {
  public:
    AchievableFraction() = default;
    /// Ascending extents, at least one point.
    explicit AchievableFraction(std::vector<std::pair<double, double>> points)
        : points_(std::move(points)) {}

    double at(double extent) const;
    const std::vector<std::pair<double, double>>& points() const { return points_; }

  private:
    std::vector<std::pair<double, double>> points_ = {{1.0, 1.0}};
};

struct Hardware {
    std::string name;
    std::string target;  ///< the backend that runs there: "cpu" or "cuda"
    cuda::DeviceProfile profile;
    int64_t cores = 0;  ///< of a CPU, shared by the ranks of a node

    int64_t devices_per_node = 1;
    int64_t memory_bytes = 0;           ///< of a device
    int64_t reserved_memory_bytes = 0;  ///< of it, what is never Lathe's: driver, libraries
    double memory_bytes_per_second = 0.0;
    double f32_flops = 0.0;  ///< a second, dense, as the backend uses them
    double bf16_flops = 0.0;
    double launch_s = 0.0;  ///< the host's time for each operation that it issues
    /// Least time of an operation on the device, however small.
    double least_operation_s = 0.0;

    Link within_node;
    Link between_nodes;
    Link host;          ///< to offloaded memory
    bool nccl = false;  ///< collectives are rings, not messages between pairs

    double price_per_hour = 0.0;  ///< of a device, in `currency`; 0: not known
    std::string currency = "USD";
    double watts = 0.0;  ///< of a device under load

    /// By OperationClass: of the FLOP/s of the type for matmul and attention, of the memory's
    /// bandwidth for the rest (above 1 where a cache serves).
    std::array<AchievableFraction, kNumOperationClasses> fractions;
    double link_fraction = 1.0;  ///< of the links' bandwidth
};

/// `name` is that of a shipped description ("h100-sxm"), or a file. Throws UsageError: unknown,
/// listing the names; unreadable; FILE:line for a wrong key, type or range.
Hardware load_hardware(const std::string& name);
std::vector<std::string> hardware_names();

/// As a file that load_hardware reads back.
std::string to_toml(const Hardware& hardware, const std::string& comment);

}  // namespace lathe
