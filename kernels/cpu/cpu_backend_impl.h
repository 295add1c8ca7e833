// The CPU backend's class. Each operation's workspace_bytes and execute stand in the file named
// after it (elementwise.cpp holds the small ones).
#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/memory_pool.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/tile_matmul.h"

namespace lathe::cpu {

class CpuBackend : public Backend {
  public:
    explicit CpuBackend(int num_threads);
    ~CpuBackend() override;

    const DeviceInfo& device() const override { return device_; }

    void release_free_memory() override { pool_.release_free_ranges(); }

    Event record(Stream) override { return {}; }

#define LATHE_DECLARE_WORKSPACE(Operation) \
    int64_t workspace_bytes(const Operation& op) const override;
    LATHE_OPERATIONS(LATHE_DECLARE_WORKSPACE)
#undef LATHE_DECLARE_WORKSPACE

    /// Matrix-product primitives made so far: constant once every shape was seen.
    int64_t num_primitives_created() const { return tiles_.num_primitives_created(); }

  protected:
    void execute_copy(const Tensor& destination, const Tensor& source, Stream stream) override;
    void execute_copy_from_host(const Tensor& destination, const void* source) override;
    void execute_copy_to_host(void* destination, const Tensor& source) override;
    void execute_fill_zero(const Tensor& tensor, Stream stream) override;
    void execute_wait(Stream, Event) override {}
    void execute_synchronize(Stream) override {}
    OffloadWindow execute_open_offloaded(const Tensor& part, OffloadUse use) override;
    void execute_close_offloaded(OffloadWindow window) override;

    void* allocate_bytes(int64_t bytes) override { return pool_.allocate(bytes); }
    void free_bytes(void* data, int64_t bytes) noexcept override { pool_.free(data, bytes); }
    void* allocate_offloaded_bytes(int64_t bytes, const std::filesystem::path& folder) override;
    void free_offloaded_bytes(void* data, int64_t bytes) noexcept override;

#define LATHE_DECLARE_EXECUTE(Operation) void execute(const Operation& op, Stream stream) override;
    LATHE_OPERATIONS(LATHE_DECLARE_EXECUTE)
#undef LATHE_DECLARE_EXECUTE

    DeviceInfo device_;

  private:
    /// Bytes of scratch that each thread owns from the start: room for one tile's operands and
    /// results, small enough to stay in its cache.
    static constexpr int64_t kThreadScratchBytes = int64_t{1} << 20;

    int num_threads() const { return device_.num_threads; }
    Team team() const {
        return {.num_threads = num_threads(),
                .spans = recorder() == nullptr ? nullptr : &recorder()->threads()};
    }
    std::byte* thread_scratch(int thread) { return scratch_ + thread * kThreadScratchBytes; }
    void copy_bytes(void* destination, const void* source, int64_t bytes) const;

    MatmulSupport support_;
    MemoryPool pool_;
    TileMatmul tiles_;
    std::byte* scratch_ = nullptr;
};

}  // namespace lathe::cpu
