// Collectives' modelled times, by hand: latency + bytes / bandwidth in each pattern.
#include "plan/dry_communicator.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/plan/plans.h"

namespace lathe::testing {
namespace {

constexpr double kNear = 1e9;  // bytes/s
constexpr double kFar = 1e8;   // bytes/s
constexpr double kNearLatency_s = 1e-6;
constexpr double kFarLatency_s = 1e-5;

struct DryJob {
    DryJob(bool gpu, int ranks, int ranks_per_node, std::vector<ColorOf> splits = {}) {
        hardware = plain_cpu(1);
        hardware.target = gpu ? "cuda" : "cpu";
        hardware.nccl = gpu;
        speed = std::make_unique<DeviceSpeed>(hardware, 1, 1);
        target = make_dry_target(hardware, 1);
        backend = std::make_unique<DryBackend>(*target, *speed, DryOptions{.overlap = true});
        world = make_dry_communicator(
            *backend, *speed,
            {.size = ranks, .ranks_per_node = ranks_per_node, .splits = std::move(splits)});
    }

    Tensor bytes(int64_t count) {
        buffers.push_back(
            backend->allocate({count / 4}, DType::f32, MemoryCategory::communication));
        return buffers.back();
    }
    double seconds_of(const std::function<void()>& collective) {
        backend->synchronize(Stream::communication);
        const double start_s = backend->now_s();
        collective();
        backend->synchronize(Stream::communication);
        return backend->now_s() - start_s;
    }

    Hardware hardware;
    std::unique_ptr<DeviceSpeed> speed;
    std::unique_ptr<DryTarget> target;
    std::unique_ptr<DryBackend> backend;
    std::unique_ptr<Communicator> world;
    std::vector<Buffer> buffers;
};

TEST(DryCommunicator, ARingPassesAllPartsButOne) {
    DryJob job(true, 4, 4);
    const std::vector<Tensor> parts(4, job.bytes(1000000));
    EXPECT_NEAR(job.seconds_of([&] { job.world->all_gather(parts, {}); }),
                3 * kNearLatency_s + 3e6 / kNear, 1e-12);
    EXPECT_NEAR(job.seconds_of([&] { job.world->reduce_scatter(parts, {}); }),
                3 * kNearLatency_s + 3e6 / kNear, 1e-12);
    EXPECT_NEAR(job.seconds_of([&] { job.world->all_reduce(parts[0], {}); }),
                2 * (3 * kNearLatency_s + 0.75e6 / kNear), 1e-12);
}

TEST(DryCommunicator, ARingOverNodesUsesAllTheirAdapters) {
    // Six ranks on nodes of 4 (the last one not full): two ranks' worth of adapters are not the
    // bottleneck that this rank sees; its node has four.
    DryJob job(true, 6, 4);
    const std::vector<Tensor> parts(6, job.bytes(1000000));
    EXPECT_NEAR(job.seconds_of([&] { job.world->all_gather(parts, {}); }),
                4 * kNearLatency_s + kFarLatency_s + 5e6 / (4 * kFar), 1e-12);
}

TEST(DryCommunicator, HostMemorySendsToOneAfterAnother) {
    DryJob job(false, 4, 2);
    const std::vector<Tensor> parts(4, job.bytes(1000000));
    EXPECT_NEAR(job.seconds_of([&] { job.world->all_gather(parts, {}); }),
                kNearLatency_s + 2 * kFarLatency_s + 1e6 / kNear + 2e6 / kFar, 1e-12);
    EXPECT_EQ(job.world->sent_bytes(), 3000000);
}

TEST(DryCommunicator, AnAllToAllOverlapsItsTwoLinksOnAGpuOnly) {
    for (const bool gpu : {true, false}) {
        DryJob job(gpu, 4, 2);
        const std::vector<Tensor> parts(4, job.bytes(1000000));
        const double near_s = 1e6 / kNear;
        const double far_s = 2e6 / kFar;
        EXPECT_NEAR(
            job.seconds_of([&] { job.world->all_to_all(parts, parts, {}); }),
            gpu ? kFarLatency_s + far_s : kNearLatency_s + 2 * kFarLatency_s + near_s + far_s,
            1e-12);
    }
}

TEST(DryCommunicator, AGroupHasTheRanksOfItsColor) {
    DryJob job(true, 8, 4, {[](int rank) { return rank / 4; }, [](int rank) { return rank % 4; }});
    const auto shards = job.world->split(0, 0);
    const auto replicas = job.world->split(0, 0);
    EXPECT_EQ(shards->size(), 4);
    EXPECT_EQ(replicas->size(), 2);
    const Tensor row = job.bytes(1000000);
    EXPECT_NEAR(job.seconds_of([&] { shards->all_reduce(row, {}); }),
                2 * (3 * kNearLatency_s + 0.75e6 / kNear), 1e-12);
    EXPECT_NEAR(job.seconds_of([&] { replicas->all_reduce(row, {}); }),
                2 * (kFarLatency_s + 0.5e6 / kFar), 1e-12)
        << "one rank a node: one adapter";
    EXPECT_THROW(job.world->split(0, 0), Error);
}

TEST(DryCommunicator, AloneNothingTakesTime) {
    for (const bool gpu : {true, false}) {
        DryJob job(gpu, 1, 1);
        const std::vector<Tensor> parts(1, job.bytes(1000000));
        EXPECT_EQ(job.seconds_of([&] {
            job.world->all_gather(parts, {});
            job.world->reduce_scatter(parts, {});
            job.world->all_reduce(parts[0], {});
            job.world->barrier({});
        }),
                  0.0);
    }
}

}  // namespace
}  // namespace lathe::testing
