// Offloaded memory of the CUDA backend: windows on pinned host memory, several at once.
#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <numeric>
#include <vector>

#include "kernels/cuda/cuda_backend.h"

namespace lathe::test {
namespace {

class CudaOffload : public testing::Test {
  protected:
    Buffer make_row(int64_t size) { return backend_->allocate_offloaded({size}, DType::f32, ""); }

    Buffer on_device(const std::vector<float>& values) {
        Buffer buffer = backend_->allocate({static_cast<int64_t>(values.size())}, DType::f32,
                                           MemoryCategory::activations);
        backend_->copy_from_host(buffer, values.data());
        return buffer;
    }

    /// Element i becomes i + offset, through windows of `window` elements of which `ahead` more are
    /// open than the one that is written.
    void fill(const Tensor& row, int64_t window, float offset, size_t ahead) {
        std::vector<float> values(static_cast<size_t>(row.size()));
        std::iota(values.begin(), values.end(), offset);
        const Buffer source = on_device(values);
        std::deque<std::pair<int64_t, OffloadWindow>> opened;
        const auto write_oldest = [&] {
            auto [begin, oldest] = std::move(opened.front());
            opened.pop_front();
            backend_->copy(oldest.tensor,
                           source.tensor().slice(begin, begin + oldest.tensor.size()),
                           Stream::compute);
            backend_->close_offloaded(std::move(oldest));
        };
        for (int64_t begin = 0; begin < row.size(); begin += window) {
            const Tensor part = row.slice(begin, std::min(begin + window, row.size()));
            opened.emplace_back(begin, backend_->open_offloaded(part, OffloadUse::change));
            if (opened.size() > ahead) {
                write_oldest();
            }
        }
        while (!opened.empty()) {
            write_oldest();
        }
    }

    std::vector<float> read(const Tensor& row, int64_t window) {
        std::vector<float> values(static_cast<size_t>(row.size()));
        for (int64_t begin = 0; begin < row.size(); begin += window) {
            const Tensor part = row.slice(begin, std::min(begin + window, row.size()));
            OffloadWindow opened = backend_->open_offloaded(part, OffloadUse::read);
            backend_->copy_to_host(values.data() + begin, opened.tensor);
            backend_->close_offloaded(std::move(opened));
        }
        return values;
    }

    static std::vector<float> expected(int64_t size, float offset) {
        std::vector<float> values(static_cast<size_t>(size));
        std::iota(values.begin(), values.end(), offset);
        return values;
    }

    std::unique_ptr<Backend> backend_ = make_cuda_backend({});
};

TEST_F(CudaOffload, KeepsWhatIsWrittenThroughWindowsOfAnySize) {
    constexpr int64_t kSize = 100003;
    const Buffer row = make_row(kSize);
    float offset = 1.0F;
    for (const int64_t window : {int64_t{7777}, int64_t{40000}, int64_t{4096}, kSize}) {
        for (const size_t ahead : {size_t{0}, size_t{2}, size_t{14}}) {
            fill(row, window, offset, ahead);
            EXPECT_TRUE(read(row, 9999) == expected(kSize, offset)) << window << " " << ahead;
            offset += 1.0F;
        }
    }
}

/// The write back of the first is under way, or not begun, when the second opens.
TEST_F(CudaOffload, AWindowSeesWhatAnotherOfTheSamePartHasChanged) {
    constexpr int64_t kSize = 50'000;
    const Buffer row = make_row(kSize);
    for (int round = 0; round < 30; ++round) {
        const auto offset = static_cast<float>(round);
        fill(row, kSize / 3, offset, 0);
        OffloadWindow middle =
            backend_->open_offloaded(row.tensor().slice(10'000, 30'000), OffloadUse::read);
        std::vector<float> values(20'000);
        backend_->copy_to_host(values.data(), middle.tensor);
        backend_->close_offloaded(std::move(middle));
        ASSERT_TRUE(values == expected(20'000, 10'000.0F + offset)) << round;
    }
}

TEST_F(CudaOffload, ReadingWritesNothingBack) {
    const Buffer row = make_row(1000);
    fill(row, 1000, 5.0F, 0);
    OffloadWindow window = backend_->open_offloaded(row, OffloadUse::read);
    backend_->fill_zero(window.tensor, Stream::compute);
    backend_->close_offloaded(std::move(window));
    EXPECT_TRUE(read(row, 1000) == expected(1000, 5.0F));
}

/// The host reaches pinned memory: what it writes there after the part was prefetched comes too
/// late for the window.
TEST_F(CudaOffload, WhatWasPrefetchedIsThereBeforeItsWindowOpens) {
    const Buffer row = make_row(4000);
    fill(row, 1000, 1.0F, 0);
    const Tensor part = row.tensor().slice(1000, 2000);
    EXPECT_TRUE(backend_->prefetch_offloaded(part));
    EXPECT_TRUE(backend_->prefetch_offloaded(part)) << "asked for once more";
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    std::fill_n(static_cast<float*>(part.data()), 1000, -1.0F);
    EXPECT_EQ(read(part, 1000), expected(1000, 1001.0F));
    EXPECT_EQ(read(part, 1000), std::vector<float>(1000, -1.0F)) << "it is opened once";
}

TEST_F(CudaOffload, NineWindowsAreHeldReady) {
    const Buffer row = make_row(10'000);
    fill(row, 1000, 3.0F, 0);
    for (const int64_t window : {700, 2500, 1000}) {
        for (int64_t i = 0; i < 10; ++i) {
            EXPECT_EQ(backend_->prefetch_offloaded(row.tensor().slice(1000 * i, 1000 * (i + 1))),
                      i < 9)
                << i;
        }
        // Of another size: other windows are made room for, also larger ones while what was
        // prefetched is on its way, and none is mistaken for another.
        EXPECT_EQ(read(row, window), expected(10'000, 3.0F));
    }
}

/// The change is closed after the part was prefetched, the prefetched copy opened after it.
TEST_F(CudaOffload, AChangeIsNotHiddenByWhatWasPrefetchedBefore) {
    const Buffer row = make_row(30'000);
    fill(row, 10'000, 0.0F, 0);
    for (int round = 1; round < 20; ++round) {
        const auto offset = static_cast<float>(round);
        for (int64_t begin = 0; begin < 30'000; begin += 5000) {
            ASSERT_TRUE(backend_->prefetch_offloaded(row.tensor().slice(begin, begin + 5000)));
        }
        fill(row, 10'000, offset, round % 3 == 0 ? 2 : 0);
        ASSERT_TRUE(read(row, 5000) == expected(30'000, offset)) << round;
    }
}

TEST_F(CudaOffload, MemoryThatIsGivenBackTakesWhatWasPrefetchedAlong) {
    for (int round = 0; round < 3; ++round) {
        const auto offset = static_cast<float>(round);
        const Buffer row = make_row(5000);
        fill(row, 5000, offset, 0);
        EXPECT_EQ(read(row, 5000), expected(5000, offset));
        EXPECT_TRUE(backend_->prefetch_offloaded(row));
    }
}

TEST_F(CudaOffload, IsCountedBesideTheDevicesMemory) {
    const auto index = static_cast<size_t>(MemoryCategory::offloaded);
    {
        const Buffer row = make_row(1000);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(row.tensor().data()) % 256, 0U);
        EXPECT_EQ(backend_->memory().current_bytes[index], 4000);
        EXPECT_EQ(backend_->memory().total_bytes, 0);
        const Buffer none = make_row(0);
        EXPECT_TRUE(none);
        OffloadWindow empty = backend_->open_offloaded(none, OffloadUse::change);
        backend_->close_offloaded(std::move(empty));
        fill(row, 100, 0.0F, 0);
    }
    EXPECT_EQ(backend_->memory().current_bytes[index], 0);
    const int64_t staging = backend_->memory().total_bytes;
    EXPECT_LE(staging, 9 * 400) << "three lots of three windows";
    EXPECT_EQ(staging,
              backend_->memory().current_bytes[static_cast<size_t>(MemoryCategory::workspace)]);
}

TEST_F(CudaOffload, MoreThanTheHostHasIsAnError) {
    try {
        make_row(int64_t{1} << 50);
        FAIL() << "4 PiB";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(),
                    testing::HasSubstr("4503599627370496 bytes of pinned host memory"));
        EXPECT_THAT(error.what(), testing::HasSubstr("--offload none"));
    }
    EXPECT_EQ(backend_->memory().current_bytes[static_cast<size_t>(MemoryCategory::offloaded)], 0);
}

}  // namespace
}  // namespace lathe::test
