#include "plan/dry_target.h"

#include "kernels/cpu/cpu_backend.h"

namespace lathe {
namespace {

class CpuTarget final : public DryTarget {
  public:
    explicit CpuTarget(int threads) : backend_(make_cpu_backend(threads)) {}

    bool stages_offloaded() const override { return false; }

#define LATHE_WORKSPACE(Operation)                                \
    int64_t workspace_bytes(const Operation& op) const override { \
        return backend_->workspace_bytes(op);                     \
    }
    LATHE_OPERATIONS(LATHE_WORKSPACE)
#undef LATHE_WORKSPACE

  private:
    std::unique_ptr<Backend> backend_;
};

class CudaTarget final : public DryTarget {
  public:
    explicit CudaTarget(const cuda::DeviceProfile& profile) : profile_(profile) {}

    bool stages_offloaded() const override { return true; }

#define LATHE_WORKSPACE(Operation)                                \
    int64_t workspace_bytes(const Operation& op) const override { \
        return cuda::workspace_bytes(op, profile_);               \
    }
    LATHE_OPERATIONS(LATHE_WORKSPACE)
#undef LATHE_WORKSPACE

  private:
    cuda::DeviceProfile profile_;
};

}  // namespace

std::unique_ptr<DryTarget> make_dry_target(const Hardware& hardware, int threads) {
    if (hardware.target == "cpu") {
        return std::make_unique<CpuTarget>(threads);
    }
    return std::make_unique<CudaTarget>(hardware.profile);
}

}  // namespace lathe
