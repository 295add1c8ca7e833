// The dry backend's books: clocks, events, overlap, and what it says of memory over time.
#include "plan/dry_backend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "parallel/param_store.h"
#include "parallel/single_communicator.h"
#include "tests/plan/plans.h"

namespace lathe::testing {
namespace {

/// 1e9 FLOP/s and bytes/s, no latency, no least time.
Hardware plain_gpu() {
    Hardware hardware = plain_cpu(1);
    hardware.target = "cuda";
    hardware.nccl = true;
    return hardware;
}

struct Dry {
    explicit Dry(const Hardware& hardware, bool overlap = true)
        : speed(hardware, 1, static_cast<int>(std::max<int64_t>(1, hardware.cores))),
          target(make_dry_target(hardware, 1)),
          backend(*target, speed, {.overlap = overlap, .keep_spans = true}) {}

    /// 1 MB read and written by a cast: 2 ms at 1e9 bytes/s.
    void two_milliseconds(Stream stream) {
        const Buffer x = backend.allocate({250000}, DType::f32, MemoryCategory::activations);
        const Buffer y = backend.allocate({250000}, DType::f32, MemoryCategory::activations);
        backend.run(Cast{.x = x, .y = y}, stream);
    }

    DeviceSpeed speed;
    std::unique_ptr<DryTarget> target;
    DryBackend backend;
};

TEST(DryBackend, StreamsOfAGpuRunBesideEachOtherUntilAnEventOrdersThem) {
    Dry dry(plain_gpu());
    dry.two_milliseconds(Stream::compute);
    dry.two_milliseconds(Stream::communication);
    dry.two_milliseconds(Stream::communication);
    dry.backend.synchronize(Stream::compute);
    EXPECT_NEAR(dry.backend.now_s(), 2e-3, 1e-12);
    dry.backend.wait(Stream::compute, dry.backend.record(Stream::communication));
    dry.two_milliseconds(Stream::compute);
    dry.backend.synchronize(Stream::compute);
    EXPECT_NEAR(dry.backend.now_s(), 6e-3, 1e-12);
    EXPECT_NEAR(dry.backend.totals().exposed_s, 2e-3, 1e-12);
    EXPECT_NEAR(dry.backend.totals().compute_s, 4e-3, 1e-12);
}

TEST(DryBackend, AnEventIsThePointWhereItWasRecorded) {
    Dry dry(plain_gpu());
    dry.two_milliseconds(Stream::communication);
    const Event early = dry.backend.record(Stream::communication);
    dry.two_milliseconds(Stream::communication);
    dry.backend.wait(Stream::compute, early);
    dry.two_milliseconds(Stream::compute);
    dry.backend.synchronize(Stream::compute);
    EXPECT_NEAR(dry.backend.now_s(), 4e-3, 1e-12);
}

TEST(DryBackend, StreamsOfACpuShareItsCores) {
    // Four cores: a cast takes 0.5 ms on all, 2 ms on the communication stream's one thread.
    Dry dry(plain_cpu(4));
    dry.two_milliseconds(Stream::compute);
    EXPECT_NEAR(dry.backend.now_s(), 0.5e-3, 1e-12);
    dry.two_milliseconds(Stream::communication);
    EXPECT_NEAR(dry.backend.now_s(), 1e-3, 1e-12) << "its 2 ms of one core are missing elsewhere";
    dry.backend.synchronize(Stream::communication);
    EXPECT_NEAR(dry.backend.now_s(), 2.5e-3, 1e-12);
}

/// The host waits for what the backward leaves before it opens windows, as it does for the norm.
TEST(DryBackend, WhatIsPrefetchedIsOnItsWayBesideComputing) {
    for (const bool prefetches : {false, true}) {
        Dry dry(plain_gpu());
        const Buffer row = dry.backend.allocate_offloaded({250000}, DType::f32, "");
        EXPECT_TRUE(!prefetches || dry.backend.prefetch_offloaded(row));
        dry.two_milliseconds(Stream::compute);
        dry.backend.synchronize(Stream::compute);
        OffloadWindow window = dry.backend.open_offloaded(row, OffloadUse::change);
        dry.two_milliseconds(Stream::compute);
        dry.backend.close_offloaded(std::move(window));
        dry.backend.synchronize(Stream::compute);
        EXPECT_NEAR(dry.backend.now_s(), prefetches ? 4e-3 : 5e-3, 1e-12);
    }
}

/// All slots are asked for when a round of micro-batches begins, so before its backward.
TEST(DryBackend, TheFirstWindowsOfAnUpdateAreOnTheirWayBeforeTheBackward) {
    const RunConfig run = small_llama();
    ParallelConfig config;
    config.offload = Offload::optimizer;
    Dry dry(plain_gpu());
    const ParamLayout layout(run.model);
    const auto world = make_single_communicator();
    ProcessGroups groups(*world, config);
    ParamStore params(layout, dry.backend, groups, DType::bf16, config);
    const auto has_room = [&] {
        return dry.backend.prefetch_offloaded(Tensor(&dry, DType::f32, {1}));
    };
    params.begin_round(1, 1);
    EXPECT_FALSE(has_room());
    for (int unit = 0; unit < layout.num_units(); ++unit) {
        params.gradients(unit);
        params.gradients_ready(unit);
    }
    params.squared_gradient_norm();
    params.update({});
    EXPECT_TRUE(has_room()) << "the update has used them";
}

TEST(DryBackend, WithoutOverlapCommunicationIsInLine) {
    Dry dry(plain_gpu(), false);
    dry.two_milliseconds(Stream::compute);
    dry.backend.communicate("all_gather", 3e-3, 0.0, 10.0);
    dry.two_milliseconds(Stream::compute);
    dry.backend.synchronize(Stream::compute);
    EXPECT_NEAR(dry.backend.now_s(), 7e-3, 1e-12);
    EXPECT_NEAR(dry.backend.totals().exposed_s, 3e-3, 1e-12);
    EXPECT_NEAR(dry.backend.totals().compute_s, 4e-3, 1e-12);
}

TEST(DryBackend, ReadsBackZeros) {
    Dry dry(plain_gpu());
    const Buffer x = dry.backend.allocate({3}, DType::f32, MemoryCategory::activations);
    std::vector<float> host(3, std::nanf(""));
    dry.backend.copy_from_host(x, host.data());
    dry.backend.copy_to_host(host.data(), x);
    EXPECT_EQ(host, std::vector<float>(3, 0.0F));
}

TEST(DryBackend, RecordsTheLifeOfAnAllocation) {
    Dry dry(plain_gpu());
    dry.backend.label("forward", "blocks.0");
    {
        const Buffer x = dry.backend.allocate({100}, DType::f32, MemoryCategory::gradients);
        dry.two_milliseconds(Stream::compute);
        const MemoryMoment& peak = dry.backend.dry_record().peak;
        EXPECT_EQ(peak.total_bytes, 400 + 2000000);
        EXPECT_EQ(dry.backend.dry_record().labels[static_cast<size_t>(peak.label)].unit,
                  "blocks.0");
    }
    const AllocationSpan& x = dry.backend.dry_record().allocations.front();
    EXPECT_EQ(x.category, MemoryCategory::gradients);
    EXPECT_EQ(x.bytes, 400);
    EXPECT_EQ(x.begin_s, 0.0);
    EXPECT_NEAR(x.end_s, 2e-3, 1e-12);
}

TEST(DryBackend, RecordsEachOperation) {
    Dry dry(plain_gpu());
    const Buffer a = dry.backend.allocate({20, 30}, DType::f32, MemoryCategory::activations);
    const Buffer b = dry.backend.allocate({30, 50}, DType::f32, MemoryCategory::parameters);
    const Buffer d = dry.backend.allocate({20, 50}, DType::f32, MemoryCategory::activations);
    Workspace(dry.backend).run(Matmul{.a = a, .b = b, .d = d});
    ASSERT_EQ(dry.backend.dry_record().spans.size(), 1U);
    const WorkSpan& span = dry.backend.dry_record().spans.front();
    EXPECT_EQ(span.what, "Matmul");
    EXPECT_EQ(span.flops, 2.0 * 20 * 30 * 50);
    EXPECT_EQ(span.bytes, 4.0 * (20 * 30 + 30 * 50 + 20 * 50));
    EXPECT_NEAR(span.end_s - span.begin_s, 60000e-9, 1e-15) << "1e9 FLOP/s, more than its bytes";
}

TEST(DryBackend, StillRejectsArgumentsThatOverlap) {
    Dry dry(plain_gpu());
    const Buffer x = dry.backend.allocate({8}, DType::f32, MemoryCategory::activations);
    EXPECT_THROW(dry.backend.run(Cast{.x = x.tensor().slice(0, 4), .y = x.tensor().slice(2, 6)}),
                 Error);
}

}  // namespace
}  // namespace lathe::testing
