// How Matmul is cut on CUDA devices, without one.
#include "kernels/cuda/matmul_shapes.h"

#include <gtest/gtest.h>

namespace lathe::test {
namespace {

using cuda::DeviceProfile;
using cuda::MatmulKernel;
using cuda::MatmulPlan;

Matmul product(DType compute, int64_t m, int64_t n, int64_t k, bool weight_gradient = false) {
    return {.a = Tensor(nullptr, compute, weight_gradient ? Shape{k, m} : Shape{m, k}),
            .b = Tensor(nullptr, compute, weight_gradient ? Shape{k, n} : Shape{n, k}),
            .d = Tensor(nullptr, weight_gradient ? DType::f32 : compute, {m, n}),
            .transpose_a = weight_gradient,
            .transpose_b = !weight_gradient};
}

class MatmulShapes : public testing::TestWithParam<const char*> {
  protected:
    DeviceProfile device_ = cuda::profile_of(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Devices, MatmulShapes, testing::Values("a100", "h100", "rtx4090"),
                         [](const auto& device) { return std::string(device.param); });

TEST_P(MatmulShapes, PartsCoverTheSumAndTheWorkspaceHoldsThem) {
    for (const DType compute : {DType::bf16, DType::f32}) {
        for (const int64_t m : {1, 17, 768, 2304}) {
            for (const int64_t k : {0, 1, 63, 512, 1000, 4097, 8192, 50304}) {
                for (const bool weight_gradient : {false, true}) {
                    const Matmul op = product(compute, m, 768, k, weight_gradient);
                    const MatmulPlan plan = plan_matmul(op, device_);
                    EXPECT_GE(plan.splits * plan.split_depth, k);
                    EXPECT_TRUE((plan.splits - 1) * plan.split_depth < k || k == 0);
                    EXPECT_TRUE(plan.splits == 1 || plan.split_depth % 64 == 0);
                    EXPECT_EQ(workspace_bytes(op, device_),
                              plan.splits == 1 ? 0 : plan.splits * m * 768 * 4);
                }
            }
        }
    }
}

TEST_P(MatmulShapes, WeightGradientsOfFewTilesAreSplitToFillTheDevice) {
    for (const DType compute : {DType::bf16, DType::f32}) {
        const MatmulPlan small = plan_matmul(product(compute, 768, 768, 8192, true), device_);
        EXPECT_GT(small.splits, 1);
        const MatmulPlan large = plan_matmul(product(compute, 8192, 50304, 768), device_);
        EXPECT_EQ(large.splits, 1);
    }
}

TEST_P(MatmulShapes, TilesFollowTheShape) {
    const auto kernel = [&](int64_t m, int64_t n, int64_t k) {
        return plan_matmul(product(DType::bf16, m, n, k), device_).kernel;
    };
    EXPECT_EQ(kernel(8192, 50304, 768), MatmulKernel::wide);
    EXPECT_EQ(kernel(1160, 1160, 72), MatmulKernel::medium);
    EXPECT_EQ(kernel(200, 136, 200), MatmulKernel::small);
    EXPECT_EQ(kernel(16, 50304, 768), MatmulKernel::few_rows);
    EXPECT_NE(kernel(17, 50304, 768), MatmulKernel::few_rows);
    EXPECT_NE(kernel(16, 50304, 767), MatmulKernel::few_rows) << "rows off 16-byte boundaries";
}

// A block cannot have more shared memory than the device gives it.
TEST(MatmulPlans, TilesFollowTheSharedMemory) {
    const Matmul op = product(DType::bf16, 8192, 50304, 768);
    DeviceProfile device = cuda::profile_of("a100");
    device.shared_memory_per_block = int64_t{64} << 10;
    EXPECT_EQ(plan_matmul(op, device).kernel, MatmulKernel::small);
}

TEST(MatmulPlans, CublasGetsItsWorkspaceAndRoomForAValueThatNobodyKeeps) {
    DeviceProfile device = cuda::profile_of("h100");
    device.matmul = MatmulLibrary::cublas;
    Matmul op = product(DType::bf16, 64, 96, 768);
    const int64_t own = workspace_bytes(op, device);
    EXPECT_EQ(own, cuda::cublas_workspace_bytes(device));
    op.activation = Activation::gelu_tanh;
    EXPECT_EQ(workspace_bytes(op, device), own + 64 * 96 * 2);
    op.pre_activation = Tensor(nullptr, DType::bf16, {64, 96});
    EXPECT_EQ(workspace_bytes(op, device), own);
}

}  // namespace
}  // namespace lathe::test
