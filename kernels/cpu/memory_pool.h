// MemoryPool: host memory in blocks that are kept when freed and given out again, so that a steady
// training step asks the system for nothing.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace lathe::cpu {

/// Blocks of size classes at most 1/8 apart, 256-byte aligned; large ones on huge pages where the
/// system has them. Kept free blocks never exceed what is in use by more than kSlackBytes: a miss
/// beyond that gives them back first.
class MemoryPool {
  public:
    MemoryPool() = default;
    MemoryPool(const MemoryPool&) = delete;
    MemoryPool& operator=(const MemoryPool&) = delete;
    ~MemoryPool();

    /// A block of at least `bytes`, or nullptr when the system has none.
    void* allocate(int64_t bytes);
    /// `bytes` as it was asked for.
    void free(void* data, int64_t bytes) noexcept;

  private:
    static constexpr int64_t kSlackBytes = int64_t{64} << 20;

    void release_kept_blocks() noexcept;

    std::map<int64_t, std::vector<void*>> kept_;
    int64_t kept_bytes_ = 0;
    int64_t used_bytes_ = 0;
};

}  // namespace lathe::cpu
