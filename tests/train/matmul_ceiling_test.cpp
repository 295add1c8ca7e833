#include "train/matmul_ceiling.h"

#include <gtest/gtest.h>

#include "kernels/reference/reference_backend.h"

namespace lathe {
namespace {

TEST(MatmulCeiling, MeasuresASlowDeviceToo) {
    const auto backend = make_reference_backend();
    for (const DType dtype : {DType::f32, DType::bf16}) {
        // No processor needs a microsecond for one operation, and none does 1e15 a second.
        const double flops = matmul_ceiling(*backend, dtype);
        EXPECT_GT(flops, 1e6);
        EXPECT_LT(flops, 1e15);
    }
    EXPECT_EQ(backend->memory().total_bytes, 0);
}

void expect_plausible(double bytes_per_second) {
    EXPECT_GT(bytes_per_second, 1e6);
    EXPECT_LT(bytes_per_second, 1e14);
}

TEST(MemoryBandwidth, IsThatOfAMachine) {
    const auto backend = make_reference_backend();
    expect_plausible(memory_bandwidth(*backend));
    EXPECT_EQ(backend->memory().total_bytes, 0);
}

TEST(MemoryReadProbe, ReadsWhatItHolds) {
    const auto backend = make_reference_backend();
    for (const int64_t bytes : {int64_t{1}, int64_t{5'000'000}}) {
        MemoryReadProbe probe(*backend, bytes);
        EXPECT_NEAR(static_cast<double>(backend->memory().total_bytes), static_cast<double>(bytes),
                    5e5);
        expect_plausible(probe.measure());
    }
    EXPECT_EQ(backend->memory().total_bytes, 0);
}

}  // namespace
}  // namespace lathe
