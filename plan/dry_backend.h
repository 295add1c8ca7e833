// DryBackend: a device that allocates and computes nothing. It counts bytes and FLOPs, keeps a
// clock for each stream, and so says what the same program needs on the device it stands for.
//
// Addresses are distinct and lead nowhere, so that checks of overlapping arguments hold as ever.
// What is read back from it is 0, in every type: losses and gradient norms are finite, nothing is
// clipped, no step is skipped.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/offload_slots.h"
#include "plan/device_speed.h"
#include "plan/dry_record.h"
#include "plan/dry_target.h"

namespace lathe {

struct DryOptions {
    int threads = 1;
    /// Whether the communication stream runs beside the compute stream, rather than in it.
    bool overlap = false;
    bool keep_spans = false;  ///< the record's lists, not only its peaks
};

class DryBackend final : public Backend {
  public:
    DryBackend(const DryTarget& target, const DeviceSpeed& speed, const DryOptions& options);

    const DeviceInfo& device() const override { return device_; }

    bool prefetch_offloaded(const Tensor& part) override;
    Event record(Stream stream) override;
    double exposed_communication_s() const override { return totals_.exposed_s; }
    void label(const char* phase, std::string_view unit) override;

#define LATHE_DECLARE_WORKSPACE(Operation)                        \
    int64_t workspace_bytes(const Operation& op) const override { \
        return target_.workspace_bytes(op);                       \
    }
    LATHE_OPERATIONS(LATHE_DECLARE_WORKSPACE)
#undef LATHE_DECLARE_WORKSPACE

    /// A collective of so many seconds on the communication stream, of which the device's own
    /// processor is busy for `busy_s`.
    void communicate(std::string_view what, double seconds, double busy_s, double sent_bytes);

    /// The host's clock: when what it is doing now happens.
    double now_s() const { return host_s_; }
    const WorkTotals& totals() const { return totals_; }
    const DryRecord& dry_record() const { return record_; }
    /// Forgets peaks and lists so far.
    void restart_record();

  protected:
    OffloadWindow execute_open_offloaded(const Tensor& part, OffloadUse use) override;
    void execute_close_offloaded(OffloadWindow window) override;
    void execute_copy(const Tensor& destination, const Tensor& source, Stream stream) override;
    void execute_copy_from_host(const Tensor& destination, const void* source) override;
    /// Fills the destination with zero bytes.
    void execute_copy_to_host(void* destination, const Tensor& source) override;
    void execute_fill_zero(const Tensor& tensor, Stream stream) override;
    void execute_wait(Stream stream, Event event) override;
    void execute_synchronize(Stream stream) override;
    void* allocate_bytes(int64_t bytes) override;
    void free_bytes(void* data, int64_t bytes) noexcept override;
    void* allocate_offloaded_bytes(int64_t bytes, const std::filesystem::path& folder) override;
    void free_offloaded_bytes(void* data, int64_t bytes) noexcept override;
    void memory_changed(MemoryCategory category, int64_t bytes) noexcept override;

#define LATHE_DECLARE_EXECUTE(Operation)                        \
    void execute(const Operation& op, Stream stream) override { \
        operate(#Operation, cost_of(op), stream);               \
    }
    LATHE_OPERATIONS(LATHE_DECLARE_EXECUTE)
#undef LATHE_DECLARE_EXECUTE

  private:
    /// Beyond what any program may address.
    static constexpr uintptr_t kFirstAddress = uintptr_t{1} << 56;
    static constexpr uintptr_t kAlignment = 256;

    /// Device memory that offloaded memory passes through.
    struct OffloadSlot : cuda::OffloadSlot {
        double filled_s = 0.0;
        double free_s = 0.0;  ///< when what came last needs it no more
    };

    OffloadSlot& fill_slot(const Tensor& part);
    void* take_address(int64_t bytes);
    void end_allocation(void* data) noexcept;
    void host_waits_until(double time_s, bool for_communication);
    void operate(std::string_view what, const OperationCost& cost, Stream stream);
    /// Issues `seconds` of a stream's time, `busy_s` of which the processor spends on it.
    void occupy(std::string_view what, Stream stream, double seconds, double busy_s,
                double flops = 0.0, double bytes = 0.0);
    double& clock(Stream stream) {
        return options_.overlap ? clocks_s_[static_cast<size_t>(stream)] : clocks_s_[0];
    }

    const DryTarget& target_;
    const DeviceSpeed& speed_;
    DryOptions options_;
    DeviceInfo device_;
    bool host_computes_;    ///< on a CPU, whose cores the streams share: issuing is computing
    bool updates_ = false;  ///< whether what is issued now is the optimizer's
    double host_s_ = 0.0;
    std::array<double, 2> clocks_s_{};
    std::vector<double> events_s_;
    double fill_s_ = 0.0;        ///< clock of the copies from offloaded memory
    double write_back_s_ = 0.0;  ///< and of those to it
    WorkTotals totals_;
    DryRecord record_;
    std::string_view last_what_ = "start";
    uintptr_t next_address_ = kFirstAddress;
    uintptr_t last_address_ = 0;  ///< of the allocation that memory_changed tells of next
    std::unordered_map<uintptr_t, size_t> living_;  ///< address to index in record_.allocations
    cuda::OffloadSlots<OffloadSlot> slots_;
};

}  // namespace lathe
