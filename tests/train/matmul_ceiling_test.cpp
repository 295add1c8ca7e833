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

TEST(MemoryBandwidth, IsThatOfAMachine) {
    const auto backend = make_reference_backend();
    for (const auto measure : {memory_bandwidth, memory_read_bandwidth}) {
        const double bytes_per_second = measure(*backend);
        EXPECT_GT(bytes_per_second, 1e6);
        EXPECT_LT(bytes_per_second, 1e14);
    }
    EXPECT_EQ(backend->memory().total_bytes, 0);
}

}  // namespace
}  // namespace lathe
