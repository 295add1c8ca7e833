// DeviceSpeed: how long one rank's device takes for an operation, by its hardware's description.
#pragma once

#include "plan/hardware.h"

namespace lathe {

class DeviceSpeed {
  public:
    /// A CPU's rate is shared evenly by `ranks_on_node` ranks, each of `threads` threads.
    DeviceSpeed(const Hardware& hardware, int64_t ranks_on_node, int64_t threads);

    double seconds(const OperationCost& cost) const;
    /// Bytes read and written on the device, without an operation's FLOPs.
    double copy_seconds(double bytes) const;
    /// Between the device and the host's, or offloaded, memory.
    double host_seconds(double bytes) const;
    /// How much slower it is when one thread of a CPU does it. 1 on a GPU.
    double one_thread_factor() const { return one_thread_factor_; }

    const Hardware& hardware() const { return hardware_; }

  private:
    double fraction(OperationClass operation_class, double extent) const {
        return hardware_.fractions[static_cast<size_t>(operation_class)].at(extent);
    }

    Hardware hardware_;
    double share_ = 1.0;  ///< of the node's CPU that this rank has
    double one_thread_factor_ = 1.0;
};

}  // namespace lathe
