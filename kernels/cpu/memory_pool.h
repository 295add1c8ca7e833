// MemoryPool: host memory that is kept when freed and given out again, so that a steady training
// step asks the system for nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lathe::cpu {

/// Blocks of any size, 256-byte aligned, cut from segments of huge pages (where the system has
/// them): from the smallest free range that is large enough. Freed neighbours become one range
/// again, so that others of another size can take what activations leave: the segments are hardly
/// larger than what is in use at its peak. Free ranges are kept, pages and all, but never more than
/// what is in use and kSlackBytes: a request that none can serve gives them back first.
///
/// With address sanitizer what is free, and each block's end beyond the bytes asked for, is out of
/// bounds.
class MemoryPool {
  public:
    MemoryPool() = default;
    MemoryPool(const MemoryPool&) = delete;
    MemoryPool& operator=(const MemoryPool&) = delete;
    /// All blocks must have been freed.
    ~MemoryPool();

    /// A block of at least `bytes`, or nullptr when the system has none.
    void* allocate(int64_t bytes);
    /// `bytes` as it was asked for.
    void free(void* data, int64_t bytes) noexcept;
    /// Gives the whole pages of what is free back to the system.
    void release_free_ranges() noexcept;

    /// Taken from the system, in use or free.
    int64_t segment_bytes() const { return used_bytes_ + free_bytes_; }

  private:
    static constexpr int64_t kSlackBytes = int64_t{64} << 20;

    struct Range {
        char* data;
        int64_t bytes;
        char* end() const { return data + bytes; }
    };
    using Ranges = std::vector<Range>;

    char* take(int64_t block) noexcept;
    bool grow(int64_t block) noexcept;
    void add_free(Range range) noexcept;
    Ranges::iterator first_free_from(const char* address) noexcept;

    Ranges free_;  ///< by address, no two adjacent; with room for all blocks to be freed
    size_t num_blocks_ = 0;
    int64_t free_bytes_ = 0;
    int64_t used_bytes_ = 0;
    char* begin_ = nullptr;  ///< of the segment that grows, downwards
};

}  // namespace lathe::cpu
