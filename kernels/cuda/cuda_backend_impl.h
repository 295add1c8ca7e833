// The CUDA backend's class. Each operation's execute stands in the file named after it, its
// workspace_bytes in that file's *_shapes.cpp.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_profile.h"
#include "kernels/cuda/handles.h"
#include "kernels/cuda/matmul_cublas.h"
#include "kernels/cuda/offload_staging.h"
#include "kernels/cuda/stamp_clock.h"
#include "kernels/cuda/wait_timer.h"

namespace lathe::cuda {

class CudaBackend final : public Backend {
  public:
    explicit CudaBackend(const CudaOptions& options);
    ~CudaBackend() override;

    const DeviceInfo& device() const override { return device_; }
    const DeviceProfile& profile() const { return profile_; }
    int index() const { return index_; }
    /// Names the GPU on its host, however the process counts them: "0000:01:00.0".
    std::string bus_id() const;
    cudaStream_t stream(Stream stream) const { return queue(stream).stream.get(); }

    /// `check` is called whenever the host has waited for a stream, and throws where what the
    /// stream was to do has failed without an error of CUDA: a collective that was aborted.
    void check_after_waits_by(std::function<void()> check) { check_ = std::move(check); }

    void release_free_memory() override;
    bool prefetch_offloaded(const Tensor& part) override;
    Event record(Stream stream) override;
    double seconds_of(const std::function<void()>& issue) override;
    /// When the stream has come to it, in the calling thread, where it may throw and call CUDA.
    void run_on_host(Stream stream, std::function<void()> function) override;
    void read_stamps() override;
    /// Also what the compute stream has stood still for events of the communication stream.
    double exposed_communication_s() const override;

#define LATHE_CUDA_WORKSPACE(Operation)                           \
    int64_t workspace_bytes(const Operation& op) const override { \
        return ::lathe::cuda::workspace_bytes(op, profile_);      \
    }
    LATHE_OPERATIONS(LATHE_CUDA_WORKSPACE)
#undef LATHE_CUDA_WORKSPACE

  protected:
    void execute_copy(const Tensor& destination, const Tensor& source, Stream stream) override;
    void execute_copy_from_host(const Tensor& destination, const void* source) override;
    void execute_copy_to_host(void* destination, const Tensor& source) override;
    void execute_fill_zero(const Tensor& tensor, Stream stream) override;
    void execute_wait(Stream stream, Event event) override;
    void execute_synchronize(Stream stream) override;
    OffloadWindow execute_open_offloaded(const Tensor& part, OffloadUse use) override;
    void execute_close_offloaded(OffloadWindow window) override;
    void stamp(Stream stream, std::shared_ptr<double> seconds) override;
    void* allocate_bytes(int64_t bytes) override;
    void free_bytes(void* data, int64_t bytes) noexcept override;
    void* allocate_offloaded_bytes(int64_t bytes, const std::filesystem::path& folder) override;
    void free_offloaded_bytes(void* data, int64_t bytes) noexcept override;

#define LATHE_CUDA_EXECUTE(Operation) void execute(const Operation& op, Stream stream) override;
    LATHE_OPERATIONS(LATHE_CUDA_EXECUTE)
#undef LATHE_CUDA_EXECUTE

  private:
    /// A stream and its latest events. An event whose place was taken by a later one of the same
    /// stream is waited for by that one: it comes after.
    struct Queue {
        static constexpr int64_t kEvents = 64;
        OwnedStream stream;
        std::array<OwnedEvent, kEvents> events;
        int64_t num_recorded = 0;
    };
    /// Host memory on its way to the device: pinned halves, filled in turn.
    struct Upload {
        static constexpr int64_t kHalfBytes = int64_t{4} << 20;
        OwnedPinned memory;
        std::array<OwnedEvent, 2> done;
        int next = 0;
    };

    Queue& queue(Stream stream) { return queues_[static_cast<size_t>(stream)]; }
    const Queue& queue(Stream stream) const { return queues_[static_cast<size_t>(stream)]; }

    int index_;
    DeviceInfo device_;
    DeviceProfile profile_;
    OwnedMemoryPool pool_;
    std::array<Queue, 2> queues_;
    Upload upload_;
    std::unique_ptr<CublasMatmul> cublas_;  ///< where it is to compute Matmul
    mutable WaitTimer exposed_;
    StampClock stamps_;
    std::function<void()> check_ = [] {};
    std::unique_ptr<OffloadStaging> staging_;  ///< from the first offloaded memory on
};

}  // namespace lathe::cuda
