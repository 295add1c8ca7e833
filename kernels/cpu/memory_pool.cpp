#include "kernels/cpu/memory_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

namespace lathe::cpu {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kHugePageBytes = int64_t{2} << 20;

/// The size class: a multiple of 1/8 of the power of two below, and of the alignment.
int64_t block_bytes(int64_t bytes) {
    const auto power = std::bit_floor(static_cast<uint64_t>(bytes));
    const int64_t step = std::max(kAlignment, static_cast<int64_t>(power / 8));
    return (bytes + step - 1) / step * step;
}

bool is_mapped(int64_t block) { return block >= 2 * kHugePageBytes; }

/// Maps `block` bytes (rounded up to huge pages) at a huge-page boundary, and asks for huge pages:
/// fewer page faults and TLB misses. Memory is only taken when touched.
void* map_block(int64_t block) {
    const int64_t size = (block + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
    const auto padded = static_cast<size_t>(size + kHugePageBytes);
    void* raw = mmap(nullptr, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) {
        return nullptr;
    }
    char* begin = static_cast<char*>(raw);
    const auto misaligned =
        static_cast<int64_t>(reinterpret_cast<uintptr_t>(begin)) & (kHugePageBytes - 1);
    const int64_t head = misaligned == 0 ? 0 : kHugePageBytes - misaligned;
    char* data = begin + head;
    if (head > 0) {
        munmap(begin, static_cast<size_t>(head));
    }
    if (head < kHugePageBytes) {
        munmap(data + size, static_cast<size_t>(kHugePageBytes - head));
    }
    madvise(data, static_cast<size_t>(size), MADV_HUGEPAGE);
    return data;
}

void* take_from_system(int64_t block) {
    if (is_mapped(block)) {
        return map_block(block);
    }
    return std::aligned_alloc(static_cast<size_t>(kAlignment), static_cast<size_t>(block));
}

void give_to_system(void* data, int64_t block) noexcept {
    if (is_mapped(block)) {
        const int64_t size = (block + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
        munmap(data, static_cast<size_t>(size));
    } else {
        std::free(data);
    }
}

}  // namespace

MemoryPool::~MemoryPool() { release_kept_blocks(); }

void* MemoryPool::allocate(int64_t bytes) {
    constexpr int64_t kAbsurdBytes = int64_t{1} << 60;
    if (bytes > kAbsurdBytes) {
        return nullptr;
    }
    const int64_t block = block_bytes(bytes);
    void* data = nullptr;
    if (const auto found = kept_.find(block); found != kept_.end() && !found->second.empty()) {
        data = found->second.back();
        found->second.pop_back();
        kept_bytes_ -= block;
    } else {
        if (kept_bytes_ > used_bytes_ + kSlackBytes) {
            release_kept_blocks();
        }
        data = take_from_system(block);
        if (data == nullptr) {
            release_kept_blocks();
            data = take_from_system(block);
        }
    }
    if (data != nullptr) {
        used_bytes_ += block;
    }
    return data;
}

void MemoryPool::free(void* data, int64_t bytes) noexcept {
    const int64_t block = block_bytes(bytes);
    used_bytes_ -= block;
    try {
        kept_[block].push_back(data);
        kept_bytes_ += block;
    } catch (...) {
        give_to_system(data, block);
    }
}

void MemoryPool::release_kept_blocks() noexcept {
    for (auto& [block, list] : kept_) {
        for (void* data : list) {
            give_to_system(data, block);
        }
        list.clear();
    }
    kept_bytes_ = 0;
}

}  // namespace lathe::cpu
