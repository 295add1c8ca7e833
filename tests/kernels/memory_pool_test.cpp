// The CPU's memory pool: blocks apart from each other, freed ranges joined and used again.
#include "kernels/cpu/memory_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

namespace lathe::test {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

struct Block {
    std::byte* data;
    int64_t bytes;
    std::byte content;
};

TEST(MemoryPool, BlocksKeepWhatIsWrittenToThem) {
    cpu::MemoryPool pool;
    std::mt19937 random(1);
    std::vector<Block> blocks;
    for (int i = 0; i < 4000; ++i) {
        const bool frees = blocks.size() > 100 || (!blocks.empty() && random() % 2 == 0);
        if (frees) {
            std::swap(blocks[random() % blocks.size()], blocks.back());
            const Block block = blocks.back();
            blocks.pop_back();
            EXPECT_TRUE(std::all_of(block.data, block.data + block.bytes,
                                    [&](std::byte byte) { return byte == block.content; }));
            pool.free(block.data, block.bytes);
        } else {
            const auto bytes = static_cast<int64_t>(1 + random() % (1U << random() % 22));
            auto* data = static_cast<std::byte*>(pool.allocate(bytes));
            ASSERT_NE(data, nullptr);
            EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 256, 0U);
            blocks.push_back({data, bytes, static_cast<std::byte>(i)});
            std::memset(data, i, static_cast<size_t>(bytes));
        }
        if (i % 500 == 0) {
            pool.release_free_ranges();
        }
    }
    for (const Block& block : blocks) {
        pool.free(block.data, block.bytes);
    }
    pool.release_free_ranges();
    EXPECT_EQ(pool.segment_bytes(), 0) << "all of each segment is free, and so given back";
}

TEST(MemoryPool, FreedNeighboursServeALargerRequest) {
    cpu::MemoryPool pool;
    std::vector<void*> parts;
    for (int i = 0; i < 6; ++i) {
        parts.push_back(pool.allocate(5 * kMiB));
    }
    const int64_t before = pool.segment_bytes();
    EXPECT_EQ(before, 32 * kMiB) << "30 MiB and a little, in whole huge pages";
    for (const int i : {0, 2, 4, 1, 3, 5}) {
        pool.free(parts[static_cast<size_t>(i)], 5 * kMiB);
    }
    void* whole = pool.allocate(30 * kMiB);
    EXPECT_EQ(pool.segment_bytes(), before);
    pool.free(whole, 30 * kMiB);
}

TEST(MemoryPool, GrowsByWhatIsMissing) {
    cpu::MemoryPool pool;
    void* first = pool.allocate(20 * kMiB);
    pool.free(first, 20 * kMiB);
    void* larger = pool.allocate(25 * kMiB);
    EXPECT_LE(pool.segment_bytes(), 28 * kMiB) << "not 20 beside 25";
    pool.free(larger, 25 * kMiB);
}

TEST(MemoryPool, ASteadyStepTakesNothingMore) {
    // Backwards frees what forward left, last in, first out, with temporaries of other sizes.
    cpu::MemoryPool pool;
    void* weights = pool.allocate(40 * kMiB);
    const auto step = [&] {
        std::vector<void*> saved;
        for (int layer = 0; layer < 8; ++layer) {
            void* temporary = pool.allocate(3 * kMiB + layer);
            saved.push_back(pool.allocate(kMiB));
            saved.push_back(pool.allocate(7 * kMiB / 2));
            pool.free(temporary, 3 * kMiB + layer);
        }
        for (int layer = 7; layer >= 0; --layer) {
            void* temporary = pool.allocate(5 * kMiB + layer);
            pool.free(saved.back(), 7 * kMiB / 2);
            saved.pop_back();
            pool.free(saved.back(), kMiB);
            saved.pop_back();
            pool.free(temporary, 5 * kMiB + layer);
        }
    };
    step();
    const int64_t after_one = pool.segment_bytes();
    for (int i = 0; i < 10; ++i) {
        step();
    }
    EXPECT_EQ(pool.segment_bytes(), after_one);
    const int64_t peak = 40 * kMiB + 8 * (9 * kMiB / 2) + 5 * kMiB;
    EXPECT_LE(after_one, peak + 3 * kMiB + 2 * kMiB) << "a temporary's hole, and a huge page";
    pool.free(weights, 40 * kMiB);
}

TEST(MemoryPool, WhatIsKeptIsBounded) {
    cpu::MemoryPool pool;
    void* first = pool.allocate(300 * kMiB);  // never touched: only address space
    pool.free(first, 300 * kMiB);
    EXPECT_GE(pool.segment_bytes(), 300 * kMiB) << "kept";
    void* larger = pool.allocate(301 * kMiB);
    EXPECT_LE(pool.segment_bytes(), 303 * kMiB);
    pool.free(larger, 301 * kMiB);
    EXPECT_EQ(pool.allocate(int64_t{1} << 61), nullptr);
}

}  // namespace
}  // namespace lathe::test
