#include "kernels/host_stream.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kernels/cpu/cpu_backend.h"

namespace lathe::test {
namespace {

/// A door that stays shut until the test opens it.
class Gate {
  public:
    void open() {
        open_ = true;
        open_.notify_all();
    }
    void pass() const { open_.wait(false); }

  private:
    std::atomic<bool> open_ = false;
};

TEST(HostStream, RunsInOrderOfIssue) {
    std::vector<int> order;  // unguarded: the stream's order is the guard
    HostStream stream;
    for (int i = 0; i < 1000; ++i) {
        stream.run([&order, i] { order.push_back(i); });
    }
    stream.synchronize();
    ASSERT_EQ(order.size(), 1000U);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(HostStream, RunsBesideTheIssuer) {
    Gate gate;
    std::atomic<int> num_done = 0;
    HostStream stream;
    EXPECT_EQ(stream.ticket(), 0);
    stream.wait(stream.ticket());  // nothing issued
    stream.run([&] { ++num_done; });
    const int64_t first = stream.ticket();
    stream.run([&] {
        gate.pass();
        ++num_done;
    });
    stream.wait(first);  // does not wait for the second, which waits for us
    EXPECT_EQ(num_done, 1);
    EXPECT_EQ(stream.num_done(), first);
    gate.open();
    stream.synchronize();
    EXPECT_EQ(num_done, 2);
    EXPECT_EQ(stream.num_done(), stream.ticket());
}

TEST(HostStream, TellsWhatWasThrownAtEveryWaitAndDropsTheRest) {
    bool ran = false;
    HostStream stream;
    stream.run([] { throw std::runtime_error("first"); });
    stream.run([&] { ran = true; });
    for (int i = 0; i < 2; ++i) {
        try {
            stream.synchronize();
            FAIL() << "nothing thrown";
        } catch (const std::runtime_error& error) {
            EXPECT_STREQ(error.what(), "first");
        }
    }
    EXPECT_FALSE(ran);
}

TEST(HostStream, EndsWhatWasIssuedBeforeItIsDestroyed) {
    int num_done = 0;
    {
        HostStream stream;
        for (int i = 0; i < 10; ++i) {
            stream.run([&] {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
                ++num_done;
            });
        }
    }
    EXPECT_EQ(num_done, 10);
}

TEST(HostStream, GivesUpWhatAFunctionHoldsBeforeItsEndIsTold) {
    HostStream stream;
    auto held = std::make_shared<int>(1);
    stream.run([held] {});
    stream.synchronize();
    EXPECT_EQ(held.use_count(), 1);
}

TEST(HostStream, CountsTheTimeItsIssuerWasBlocked) {
    HostStream stream;
    stream.run([] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
    EXPECT_EQ(stream.blocked_s(), 0);
    stream.synchronize();
    const double blocked_s = stream.blocked_s();
    EXPECT_GT(blocked_s, 0);
    stream.synchronize();
    EXPECT_EQ(stream.blocked_s(), blocked_s);
}

/// Compute goes on while the communication stream is held up, and their events order them.
TEST(OverlappingCpuBackend, ComputesWhileItCommunicates) {
    Gate gate;
    const auto backend = make_overlapping_cpu_backend(1);
    const Buffer a = backend->allocate({4}, DType::f32, MemoryCategory::communication);
    const Buffer b = backend->allocate({4}, DType::f32, MemoryCategory::communication);
    const std::vector<float> ones(4, 1.0F);
    backend->copy_from_host(a, ones.data());
    backend->fill_zero(b, Stream::compute);

    const Event before = backend->record(Stream::communication);
    backend->run_on_host(Stream::communication, [&] { gate.pass(); });
    backend->copy(b, a, Stream::communication);
    const Event after = backend->record(Stream::communication);
    backend->wait(Stream::compute, before);
    backend->synchronize(Stream::compute);
    std::vector<float> values(4);
    backend->copy_to_host(values.data(), b);
    EXPECT_EQ(values, std::vector<float>(4, 0.0F));  // still held up

    gate.open();
    backend->wait(Stream::compute, after);
    backend->copy_to_host(values.data(), b);
    EXPECT_EQ(values, ones);
}

/// Hidden or not, what holds up the issuer is counted, and only that.
TEST(Backends, CountExposedCommunication) {
    const auto nap = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
    const auto at_once = make_cpu_backend(1);
    at_once->run_on_host(Stream::compute, nap);
    EXPECT_EQ(at_once->exposed_communication_s(), 0);
    at_once->run_on_host(Stream::communication, nap);
    EXPECT_GE(at_once->exposed_communication_s(), 0.02);

    const auto overlapping = make_overlapping_cpu_backend(1);
    overlapping->run_on_host(Stream::communication, nap);
    EXPECT_EQ(overlapping->exposed_communication_s(), 0);
    overlapping->synchronize(Stream::communication);
    EXPECT_GT(overlapping->exposed_communication_s(), 0);
}

TEST(OverlappingCpuBackend, TellsAFailureOfTheStreamWhereItIsWaitedFor) {
    const auto backend = make_overlapping_cpu_backend(2);
    backend->run_on_host(Stream::communication, [] { throw Error("lost a rank"); });
    const Event after = backend->record(Stream::communication);
    EXPECT_THROW(backend->wait(Stream::compute, after), Error);
    EXPECT_THROW(backend->synchronize(Stream::communication), Error);
}

}  // namespace
}  // namespace lathe::test
