// Local communicators: the common cases on 1 to 8 ranks, and what a rank that fails does to the
// others.
#include "parallel/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "parallel/local_communicator.h"
#include "tests/parallel/communicator_cases.h"

namespace lathe::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

enum class Streams { at_once, overlapping };

std::unique_ptr<Backend> make_backend(Streams streams) {
    return streams == Streams::at_once ? make_cpu_backend(1) : make_overlapping_cpu_backend(1);
}

using RankBody = std::function<void(Backend& backend, Communicator& world)>;

/// Runs `body` on threads; returns what each rank threw, "" for nothing.
std::vector<std::string> failures_of(int num_ranks, double timeout_s, Streams streams,
                                     const RankBody& body) {
    std::vector<std::unique_ptr<Backend>> backends;
    std::vector<Backend*> pointers;
    for (int rank = 0; rank < num_ranks; ++rank) {
        backends.push_back(make_backend(streams));
        pointers.push_back(backends.back().get());
    }
    const auto world = make_local_communicators(pointers, timeout_s);
    std::vector<std::string> failures(world.size());
    std::vector<std::thread> ranks;
    for (size_t rank = 0; rank < world.size(); ++rank) {
        ranks.emplace_back([&, rank] {
            try {
                body(*backends[rank], *world[rank]);
                backends[rank]->synchronize(Stream::communication);
            } catch (const std::exception& error) {
                failures[rank] = error.what();
            }
        });
    }
    for (std::thread& rank : ranks) {
        rank.join();
    }
    return failures;
}

struct LocalCase {
    CommunicatorCase common;
    int num_ranks;
    Streams streams;
};

std::vector<LocalCase> local_cases() {
    std::vector<LocalCase> cases;
    for (const CommunicatorCase& common : communicator_cases()) {
        for (const int num_ranks : {1, 2, 3, 5, 7, 8}) {
            cases.push_back({common, num_ranks, Streams::at_once});
            cases.push_back({common, num_ranks, Streams::overlapping});
        }
    }
    return cases;
}

class LocalCommunicator : public ::testing::TestWithParam<LocalCase> {};

TEST_P(LocalCommunicator, DoesAsItsContractSays) {
    const LocalCase& param = GetParam();
    const auto failures = failures_of(
        param.num_ranks, 60, param.streams,
        [&](Backend& backend, Communicator& world) { param.common.run(backend, world); });
    EXPECT_THAT(failures, ::testing::Each(""));
}

INSTANTIATE_TEST_SUITE_P(All, LocalCommunicator, ::testing::ValuesIn(local_cases()),
                         [](const auto& one) {
                             return one.param.common.name + "_" +
                                    std::to_string(one.param.num_ranks) + "_ranks" +
                                    (one.param.streams == Streams::at_once ? "" : "_overlapping");
                         });

class FailingCommunicator : public ::testing::TestWithParam<Streams> {
  protected:
    std::vector<std::string> failures(int num_ranks, double timeout_s, const RankBody& body) const {
        return failures_of(num_ranks, timeout_s, GetParam(), body);
    }
};

INSTANTIATE_TEST_SUITE_P(All, FailingCommunicator,
                         ::testing::Values(Streams::at_once, Streams::overlapping),
                         [](const auto& one) {
                             return one.param == Streams::at_once ? "at_once" : "overlapping";
                         });

TEST_P(FailingCommunicator, NamesTheRanksThatStayAway) {
    const auto start = Clock::now();
    const auto texts = failures(4, 0.3, [](Backend& backend, Communicator& world) {
        world.barrier({.tensor = "start", .step = 0});
        if (world.rank() == 1 || world.rank() == 3) {
            return;
        }
        const Buffer part = backend.allocate({8}, DType::f32, MemoryCategory::communication);
        world.all_gather(std::vector<Tensor>(4, part.tensor().slice(0, 2)),
                         {.tensor = "parameters of blocks.3", .step = 7});
        backend.synchronize(Stream::communication);
    });
    EXPECT_LT(std::chrono::duration<double>(Clock::now() - start).count(), 20);
    EXPECT_EQ(texts[0],
              "all_gather number 2 (\"parameters of blocks.3\", step 7) has waited 0.3 s for "
              "ranks 1 and 3: died, hanging, or slower than --collective-timeout allows");
    EXPECT_THAT(texts[2], HasSubstr("all_gather number 2"));
    EXPECT_EQ(texts[1], "");
}

TEST_P(FailingCommunicator, NamesWorldRanksInAGroup) {
    const auto texts = failures(4, 0.3, [](Backend&, Communicator& world) {
        const auto upper = world.split(world.rank() == 0 ? 0 : 1, world.rank());
        const auto group = upper->split(world.rank() == 2 ? 0 : 1, world.rank());
        if (world.rank() != 3) {
            group->barrier({.tensor = "group", .step = 2});
        }
    });
    EXPECT_THAT(texts[1], AllOf(HasSubstr("barrier number 1 (\"group\", step 2)"),
                                HasSubstr("waited 0.3 s for rank 3:")));
    EXPECT_EQ(texts[0] + texts[2] + texts[3], "");
}

TEST_P(FailingCommunicator, FailsAtOnceWhereRanksCallDifferentOperations) {
    const auto start = Clock::now();
    const auto texts = failures(3, 60, [](Backend& backend, Communicator& world) {
        const Buffer part = backend.allocate({6}, DType::f32, MemoryCategory::communication);
        backend.fill_zero(part, Stream::compute);
        if (world.rank() == 2) {
            world.all_reduce(part, {.tensor = "gradients of head", .step = 5});
        } else {
            world.all_gather(std::vector<Tensor>(3, part.tensor().slice(0, 2)),
                             {.tensor = "parameters of head", .step = 5});
        }
        backend.synchronize(Stream::communication);
    });
    EXPECT_LT(std::chrono::duration<double>(Clock::now() - start).count(), 20);
    EXPECT_EQ(texts[0],
              "the ranks differ: rank 0 calls all_gather number 1 (\"parameters of head\", step 5, "
              "f32, 8 bytes to it and 8 from it), but rank 2 calls all_reduce number 1 "
              "(\"gradients of head\", step 5, f32, 8 bytes to it and 8 from it)");
    EXPECT_THAT(texts[2], HasSubstr("rank 2 calls all_reduce"));
}

struct Difference {
    const char* name;
    void (*call)(Backend& backend, Communicator& world);
};

TEST_P(FailingCommunicator, FailsAtOnceOnAnyDifferenceOfTheSameOperation) {
    const std::vector<Difference> differences = {
        {"step", [](Backend&,
                    Communicator& world) { world.barrier({.tensor = "x", .step = world.rank()}); }},
        {"label",
         [](Backend&, Communicator& world) {
             // Alike in all that a header shows of it.
             world.barrier(
                 {.tensor = std::string(200, 'x') + std::to_string(world.rank()), .step = 1});
         }},
        {"root",
         [](Backend& backend, Communicator& world) {
             const Buffer tensor = backend.allocate({2}, DType::f32, MemoryCategory::communication);
             world.broadcast(tensor, world.rank(), {.tensor = "x", .step = 1});
             backend.synchronize(Stream::communication);
         }},
        {"size",
         [](Backend& backend, Communicator& world) {
             const Buffer tensor =
                 backend.allocate({2 + world.rank()}, DType::f32, MemoryCategory::communication);
             world.all_reduce(tensor, {.tensor = "x", .step = 1});
             backend.synchronize(Stream::communication);
         }},
        {"type",
         [](Backend& backend, Communicator& world) {
             const Buffer tensor = backend.allocate({4 - 2 * world.rank()},
                                                    world.rank() == 0 ? DType::bf16 : DType::f32,
                                                    MemoryCategory::communication);
             backend.fill_zero(tensor, Stream::compute);
             world.all_reduce(tensor, {.tensor = "x", .step = 1});
             backend.synchronize(Stream::communication);
         }},
        {"what one sends and the other awaits",
         [](Backend& backend, Communicator& world) {
             const Buffer tensor = backend.allocate({4}, DType::f32, MemoryCategory::communication);
             const Tensor none;
             const std::vector<Tensor> both = {tensor, tensor};
             const std::vector<Tensor> only_self = {tensor, none};
             world.all_to_all(both, world.rank() == 0 ? only_self : both,
                              {.tensor = "x", .step = 1});
             backend.synchronize(Stream::communication);
         }},
    };
    for (const Difference& difference : differences) {
        const auto texts = failures(2, 60, [&](Backend& backend, Communicator& world) {
            difference.call(backend, world);
            backend.synchronize(Stream::communication);
        });
        EXPECT_THAT(texts, ::testing::Each(HasSubstr("the ranks differ"))) << difference.name;
    }
}

TEST_P(FailingCommunicator, ServesNoMoreAfterAFailure) {
    const auto texts = failures(2, 0.1, [](Backend&, Communicator& world) {
        if (world.rank() == 0) {
            EXPECT_THROW(world.barrier({.tensor = "x", .step = 1}), Error);
            world.barrier({.tensor = "y", .step = 1});
        }
    });
    EXPECT_THAT(texts[0],
                HasSubstr("barrier number 1 (\"x\", step 1) has waited 0.1 s for rank 1"));
}

TEST_P(FailingCommunicator, AbortEndsEveryWait) {
    const auto start = Clock::now();
    const auto texts = failures(4, 60, [](Backend& backend, Communicator& world) {
        const auto pair = world.split(world.rank() / 2, world.rank());
        if (world.rank() == 3) {
            pair->abort("the disk is full", 1);
            world.abort("something that follows from it", 1);
        } else if (world.rank() == 2) {
            pair->barrier({.tensor = "pair", .step = 1});
        } else {
            const Buffer tensor = backend.allocate({2}, DType::f32, MemoryCategory::communication);
            world.all_reduce(tensor, {.tensor = "sum", .step = 1});
            backend.synchronize(Stream::communication);
        }
    });
    EXPECT_LT(std::chrono::duration<double>(Clock::now() - start).count(), 20);
    for (int rank = 0; rank < 3; ++rank) {
        EXPECT_EQ(texts[static_cast<size_t>(rank)], "rank 3 has ended the job: the disk is full");
    }
}

TEST_P(FailingCommunicator, RefusesArgumentsThatCannotBe) {
    const auto texts = failures(2, 60, [](Backend& backend, Communicator& world) {
        const Buffer tensor = backend.allocate({2}, DType::f32, MemoryCategory::communication);
        const Buffer tokens = backend.allocate({2}, DType::i32, MemoryCategory::communication);
        const std::vector<Tensor> one = {tensor};
        const std::vector<Tensor> two = {tensor, tensor};
        const std::vector<Tensor> uneven = {tensor.tensor().slice(0, 1),
                                            tensor.tensor().slice(0, 1)};
        const CollectiveLabel label{.tensor = "x", .step = 1};
        EXPECT_THROW(world.all_to_all(one, two, label), Error);
        EXPECT_THROW(world.all_to_all(uneven, two, label), Error);
        EXPECT_THROW(world.all_gather(one, label), Error);
        EXPECT_THROW(world.reduce_scatter(one, label), Error);
        EXPECT_THROW(world.all_reduce(tokens, label), Error);
        EXPECT_THROW(world.broadcast(tensor, 2, label), Error);
        EXPECT_THROW(world.broadcast(tensor, -1, label), Error);
        world.barrier(label);  // none of them has been counted
    });
    EXPECT_THAT(texts, ::testing::Each(""));
}

}  // namespace
}  // namespace lathe::test
