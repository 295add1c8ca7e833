// Copies, streams and events of the CUDA backend.
#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "tests/support/expect_error.h"

namespace lathe::test {
namespace {

/// Different in every place, and by `seed`.
std::vector<float> numbers(int64_t size, int seed) {
    std::vector<float> values(static_cast<size_t>(size));
    std::iota(values.begin(), values.end(), static_cast<float>(seed * 1000));
    return values;
}

/// Of the device.
int64_t free_bytes() {
    size_t free = 0;
    size_t total = 0;
    EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
    return static_cast<int64_t>(free);
}

class CudaStreams : public testing::Test {
  protected:
    Buffer allocate(int64_t size) {
        return backend_->allocate({size}, DType::f32, MemoryCategory::communication);
    }
    Buffer filled(const std::vector<float>& values) {
        Buffer buffer = allocate(static_cast<int64_t>(values.size()));
        backend_->copy_from_host(buffer, values.data());
        return buffer;
    }
    std::vector<float> read(const Tensor& tensor) {
        std::vector<float> values(static_cast<size_t>(tensor.size()));
        backend_->copy_to_host(values.data(), tensor);
        return values;
    }
    void order(Stream after, Stream before) { backend_->wait(after, backend_->record(before)); }

    std::unique_ptr<Backend> backend_ = make_cuda_backend({});
};

// Host memory passes through two pinned halves of 4 MiB.
TEST_F(CudaStreams, HostCopiesOfAnySizeComeBack) {
    constexpr int64_t kHalf = int64_t{1} << 20;
    for (const int64_t size :
         {int64_t{0}, int64_t{1}, kHalf - 1, kHalf, kHalf + 1, 5 * kHalf + 3}) {
        std::vector<float> values = numbers(size, 1);
        const Buffer buffer = allocate(size);
        backend_->copy_from_host(buffer, values.data());
        const std::vector<float> expected = values;
        std::fill(values.begin(), values.end(), -1.0F);  // may be reused on return
        EXPECT_TRUE(read(buffer) == expected) << size;
    }
}

TEST_F(CudaStreams, HostCopiesOfBytesAtOddAddresses) {
    const Buffer buffer = backend_->allocate({9}, DType::bf16, MemoryCategory::activations);
    backend_->fill_zero(buffer, Stream::compute);
    const std::vector<bf16> values = {bf16(1.0F), bf16(2.0F), bf16(3.0F)};
    backend_->copy_from_host(buffer.tensor().slice(3, 6), values.data());
    std::vector<bf16> got(9);
    backend_->copy_to_host(got.data(), buffer);
    for (size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(static_cast<float>(got[i]),
                  i >= 3 && i < 6 ? static_cast<float>(values[i - 3]) : 0.0F);
    }
}

/// With streams that run as late as they may, a wait that does nothing shows.
TEST_F(CudaStreams, EventsOrderTheStreams) {
    const Buffer a = allocate(1000);
    const Buffer b = allocate(1000);
    order(Stream::communication, Stream::compute);
    for (int round = 0; round < 150; ++round) {  // more than a stream keeps events
        const std::vector<float> values = numbers(1000, round);
        backend_->copy_from_host(a, values.data());
        order(Stream::communication, Stream::compute);
        backend_->copy(b, a, Stream::communication);
        order(Stream::compute, Stream::communication);
        ASSERT_TRUE(read(b) == values) << round;
    }
}

TEST_F(CudaStreams, AnEventWhosePlaceWasTakenIsWaitedForByALaterOne) {
    const Buffer a = filled(numbers(1000, 1));
    const Buffer b = allocate(1000);
    order(Stream::communication, Stream::compute);
    backend_->copy(b, a, Stream::communication);
    const Event copied = backend_->record(Stream::communication);
    for (int later = 0; later < 200; ++later) {
        backend_->record(Stream::communication);
    }
    backend_->wait(Stream::compute, copied);
    EXPECT_TRUE(read(b) == numbers(1000, 1));
}

TEST_F(CudaStreams, AnEventThatWasNeverRecordedHasHappened) {
    backend_->wait(Stream::compute, Event());
    backend_->wait(Stream::communication, Event());
    backend_->synchronize(Stream::communication);
}

/// What was issued may still use a buffer that is given back.
TEST_F(CudaStreams, FreedMemoryIsFreeInTheStreamsOrder) {
    const Buffer kept = allocate(100'000);
    for (int round = 0; round < 20; ++round) {
        {
            const Buffer temporary = filled(numbers(100'000, round));
            backend_->copy(kept, temporary, Stream::compute);
        }
        const Buffer next = allocate(100'000);
        backend_->fill_zero(next, Stream::compute);
        ASSERT_TRUE(read(kept) == numbers(100'000, round));
    }
}

TEST_F(CudaStreams, WhatIsFreeIsGivenBackWhenAsked) {
    constexpr int64_t kBytes = int64_t{256} << 20;
    const auto missing = [all = free_bytes()] { return all - free_bytes(); };
    const Buffer stays = allocate(1);
    {
        const Buffer buffer = allocate(kBytes / 4);
        backend_->fill_zero(buffer, Stream::compute);
    }
    backend_->synchronize(Stream::compute);
    EXPECT_GE(missing(), kBytes) << "kept for the next";
    backend_->release_free_memory();
    EXPECT_LT(missing(), kBytes / 2);
}

TEST_F(CudaStreams, HostFunctionsRunInTheirTurn) {
    const Buffer a = filled(numbers(10, 7));
    const Buffer b = allocate(10);
    backend_->copy(b, a, Stream::compute);
    std::vector<float> seen;
    backend_->run_on_host(Stream::compute, [&] { seen = read(b); });
    EXPECT_TRUE(seen == numbers(10, 7));
    EXPECT_THROW(backend_->run_on_host(Stream::communication, [] { throw Error("lost a rank"); }),
                 Error);
}

TEST_F(CudaStreams, CountsExposedCommunication) {
    const auto nap = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
    order(Stream::communication, Stream::compute);  // communication waits: hidden
    backend_->run_on_host(Stream::compute, nap);
    EXPECT_EQ(backend_->exposed_communication_s(), 0);
    backend_->run_on_host(Stream::communication, nap);
    EXPECT_GE(backend_->exposed_communication_s(), 0.02);
    const double before = backend_->exposed_communication_s();
    for (int i = 0; i < 100; ++i) {
        order(Stream::compute, Stream::communication);
    }
    backend_->synchronize(Stream::compute);
    EXPECT_GT(backend_->exposed_communication_s(), before);
}

TEST_F(CudaStreams, TimesWhatIsIssued) {
    const Buffer buffer = allocate(100'000);
    const double seconds =
        backend_->seconds_of([&] { backend_->fill_zero(buffer, Stream::compute); });
    EXPECT_GT(seconds, 0.0);
    EXPECT_LT(seconds, 60.0);
}

TEST(CudaDevices, OneThatIsNotThereIsNamed) {
    const int count = count_cuda_devices();
    for (const int device : {-1, count}) {
        expect_usage_error([&] { make_cuda_backend({.device = device}); },
                           {fmt::format("CUDA device {}", device), "CUDA_VISIBLE_DEVICES"});
    }
    EXPECT_NE(make_cuda_backend({.device = count - 1}), nullptr);
    EXPECT_EQ(cuda_complaint(), "");
}

}  // namespace
}  // namespace lathe::test
