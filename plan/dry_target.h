// DryTarget: the backend that a dry one stands for: what it would answer without its device.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "plan/hardware.h"

namespace lathe {

class DryTarget {
  public:
    virtual ~DryTarget() = default;

    /// Whether offloaded memory is reached through slots of the device's memory, as
    /// kernels/cuda/offload_staging.h does it, or where it lies.
    virtual bool stages_offloaded() const = 0;

#define LATHE_DECLARE_WORKSPACE(Operation) \
    virtual int64_t workspace_bytes(const Operation& op) const = 0;
    LATHE_OPERATIONS(LATHE_DECLARE_WORKSPACE)
#undef LATHE_DECLARE_WORKSPACE
};

/// A CPU's: those of this machine's processor, which are chosen by its instruction set.
std::unique_ptr<DryTarget> make_dry_target(const Hardware& hardware, int threads);

}  // namespace lathe
