#include "kernels/cpu/memory_pool.h"

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#include <algorithm>
#include <iterator>

namespace lathe::cpu {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kHugePageBytes = int64_t{2} << 20;

int64_t round_up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

/// At least one byte more than asked for, which nobody may touch.
int64_t block_bytes(int64_t bytes) { return round_up(bytes + 1, kAlignment); }

/// Whole huge pages, for which the system is asked. Memory is only taken when touched.
/// At `address`, or nullptr where something lies there already.
char* map_at(char* address, int64_t bytes) {
    void* data = mmap(address, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (data != address && data != MAP_FAILED) {
        munmap(data, static_cast<size_t>(bytes));  // systems that do not know the last flag
    }
    return data == address ? address : nullptr;
}

/// At a boundary of huge pages anywhere.
char* map_anywhere(int64_t bytes) {
    const int64_t padded = bytes + kHugePageBytes;
    void* raw = mmap(nullptr, static_cast<size_t>(padded), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) {
        return nullptr;
    }
    char* const begin = static_cast<char*>(raw);
    const int64_t tail = static_cast<int64_t>(reinterpret_cast<uintptr_t>(begin) % kHugePageBytes);
    const int64_t head = kHugePageBytes - tail;
    munmap(begin, static_cast<size_t>(head));
    if (tail > 0) {
        munmap(begin + head + bytes, static_cast<size_t>(tail));
    }
    return begin + head;
}

}  // namespace

MemoryPool::~MemoryPool() { release_free_ranges(); }

void* MemoryPool::allocate(int64_t bytes) {
    constexpr int64_t kAbsurdBytes = int64_t{1} << 60;
    if (bytes > kAbsurdBytes) {
        return nullptr;
    }
    const int64_t block = block_bytes(bytes);
    // Freeing must not need memory: a range may become three, where its middle is given back.
    free_.reserve(3 * (free_.size() + num_blocks_ + 2));
    char* data = take(block);
    if (data == nullptr) {
        if (free_bytes_ > used_bytes_ + kSlackBytes) {
            release_free_ranges();
        }
        if (!grow(block)) {
            release_free_ranges();
            if (!grow(block)) {
                return nullptr;
            }
        }
        data = take(block);
    }
    ++num_blocks_;
    used_bytes_ += block;
    ASAN_UNPOISON_MEMORY_REGION(data, static_cast<size_t>(bytes));
    return data;
}

void MemoryPool::free(void* data, int64_t bytes) noexcept {
    const int64_t block = block_bytes(bytes);
    --num_blocks_;
    used_bytes_ -= block;
    add_free({static_cast<char*>(data), block});
}

/// From the smallest free range that holds the block; nullptr where none does.
char* MemoryPool::take(int64_t block) noexcept {
    auto best = free_.end();
    for (auto range = free_.begin(); range != free_.end(); ++range) {
        if (range->bytes >= block && (best == free_.end() || range->bytes < best->bytes)) {
            best = range;
        }
    }
    if (best == free_.end()) {
        return nullptr;
    }
    // Its end: what is left lies where the segment grows.
    best->bytes -= block;
    free_bytes_ -= block;
    char* const data = best->end();
    if (best->bytes == 0) {
        free_.erase(best);
    }
    return data;
}

/// Makes room for the block: at the begin of the last segment, or in a new one.
bool MemoryPool::grow(int64_t block) noexcept {
    const auto first = first_free_from(begin_);
    const bool is_begin_free = first != free_.end() && first->data == begin_;
    int64_t bytes = round_up(block - (is_begin_free ? first->bytes : 0), kHugePageBytes);
    char* segment = begin_ == nullptr ? nullptr : map_at(begin_ - bytes, bytes);
    if (segment == nullptr) {
        bytes = round_up(block, kHugePageBytes);
        segment = map_anywhere(bytes);
    }
    if (segment == nullptr) {
        return false;
    }
    // Fewer page faults and TLB misses.
    madvise(segment, static_cast<size_t>(bytes), MADV_HUGEPAGE);
    begin_ = segment;
    add_free({segment, bytes});
    return true;
}

MemoryPool::Ranges::iterator MemoryPool::first_free_from(const char* address) noexcept {
    return std::lower_bound(
        free_.begin(), free_.end(), address,
        [](const Range& range, const char* begin) { return range.data < begin; });
}

/// Joins it with its neighbours.
void MemoryPool::add_free(Range range) noexcept {
    ASAN_POISON_MEMORY_REGION(range.data, static_cast<size_t>(range.bytes));
    free_bytes_ += range.bytes;
    auto next = first_free_from(range.data);
    if (next != free_.end() && range.end() == next->data) {
        range.bytes += next->bytes;
        next = free_.erase(next);
    }
    if (next != free_.begin() && std::prev(next)->end() == range.data) {
        std::prev(next)->bytes += range.bytes;
    } else {
        free_.insert(next, range);
    }
}

void MemoryPool::release_free_ranges() noexcept {
    size_t i = 0;
    while (i < free_.size()) {
        const Range range = free_[i];
        const auto address = reinterpret_cast<intptr_t>(range.data);
        const int64_t head = round_up(address, kHugePageBytes) - address;
        const int64_t bytes = (range.bytes - head) / kHugePageBytes * kHugePageBytes;
        if (bytes <= 0) {
            ++i;
            continue;
        }
        char* const pages = range.data + head;
        ASAN_UNPOISON_MEMORY_REGION(pages, static_cast<size_t>(bytes));
        munmap(pages, static_cast<size_t>(bytes));
        if (pages == begin_) {
            begin_ += bytes;
        }
        free_bytes_ -= range.bytes;
        free_.erase(free_.begin() + static_cast<int64_t>(i));
        for (const Range rest :
             {Range{range.data, head}, Range{pages + bytes, range.bytes - head - bytes}}) {
            if (rest.bytes > 0) {
                add_free(rest);
                ++i;
            }
        }
    }
}

}  // namespace lathe::cpu
