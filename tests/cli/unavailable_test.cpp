// What stands in for optional parts, which this build may well have: it compiles, and says what to
// install.
#include <gtest/gtest.h>

#include "kernels/bench/bench.h"
#include "kernels/reference/reference_backend.h"
#include "parallel/launch.h"
#include "parallel/nccl_communicator.h"
#include "tests/support/expect_error.h"

namespace lathe {
namespace {

TEST(Unavailable, BenchNamesGoogleBenchmark) {
    const auto backend = make_reference_backend();
    expect_usage_error([&] { bench::run_bench(*backend, nullptr, {}); },
                       {"bench: ", "libbenchmark-dev"});
}

TEST(Unavailable, SeveralRanksNameMpi) {
    expect_usage_error([] { join_mpi_launch(3); }, {"one of 3 ranks", "libopenmpi-dev"});
}

TEST(Unavailable, SeveralGpusNameNccl) {
    const auto backend = make_reference_backend();
    expect_usage_error(
        [&] {
            make_nccl_communicator(*backend, nullptr, {0, 1}, "world", 1.0);
        },
        {"libnccl-dev", "--device cpu"});
}

}  // namespace
}  // namespace lathe
