// The common cases on processes: every rank runs all of them. Run by mpirun.
#include <gtest/gtest.h>

#include "parallel/launch.h"
#include "tests/parallel/communicator_cases.h"
#include "tests/parallel/rank_backends.h"

namespace lathe::test {
namespace {

class MpiCommunicator : public ::testing::TestWithParam<CommunicatorCase> {
  public:
    static inline Launch* launch = nullptr;
};

TEST_P(MpiCommunicator, DoesAsItsContractSays) {
    for (const auto& make : rank_backends()) {
        const auto backend = make(launch->place());
        const auto world = launch->make_world(*backend, 60);
        GetParam().run(*backend, *world);
        world->barrier({.tensor = "end", .step = 0});
    }
}

INSTANTIATE_TEST_SUITE_P(All, MpiCommunicator,
                         ::testing::ValuesIn(communicator_cases().begin(),
                                             communicator_cases().end()),
                         [](const auto& one) { return one.param.name; });

TEST(MpiLaunch, KnowsThePlaceOfEachRank) {
    const RankPlace& place = MpiCommunicator::launch->place();
    EXPECT_EQ(place.size, launched_ranks());
    EXPECT_EQ(place.local_size, place.size);  // all on this host
    EXPECT_EQ(place.local_rank, place.rank);
    EXPECT_FALSE(place.host.empty());
    const auto backend = rank_backends()[0](place);
    const auto world = MpiCommunicator::launch->make_world(*backend, 60);
    EXPECT_EQ(world->rank(), place.rank);
    EXPECT_EQ(world->size(), place.size);
}

/// Only rank 0 tells what passes; all tell what fails.
class QuietPrinter : public ::testing::EmptyTestEventListener {
    void OnTestPartResult(const ::testing::TestPartResult& result) override {
        if (result.failed()) {
            fmt::print(stderr, "rank {}: {}:{}: {}\n", MpiCommunicator::launch->place().rank,
                       result.file_name() == nullptr ? "?" : result.file_name(),
                       result.line_number(), result.message());
        }
    }
};

}  // namespace
}  // namespace lathe::test

int main(int argc, char** argv) {
    using lathe::test::MpiCommunicator;
    ::testing::InitGoogleTest(&argc, argv);
    const auto launch = lathe::join_launch();
    MpiCommunicator::launch = launch.get();
    if (launch->place().rank != 0) {
        auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
        delete listeners.Release(listeners.default_result_printer());
        listeners.Append(new lathe::test::QuietPrinter);
    }
    return RUN_ALL_TESTS();
}
