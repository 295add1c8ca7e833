#include "kernels/cuda/matmul_shapes.h"

#include <algorithm>
#include <array>
#include <span>

namespace lathe::cuda {
namespace {

struct Candidate {
    MatmulKernel kernel;
    MatmulTile tile;
    double rate;  ///< multiply-adds a second of a busy multiprocessor, relative
};

// Modelled, not measured: a larger tile reads less shared memory for each product.
constexpr std::array<Candidate, 3> kBf16Candidates = {{
    {MatmulKernel::wide, kBf16Wide, 1.0},
    {MatmulKernel::medium, kBf16Medium, 0.95},
    {MatmulKernel::small, kBf16Small, 0.6},
}};
constexpr std::array<Candidate, 2> kF32Candidates = {{
    {MatmulKernel::medium, kF32Medium, 1.0},
    {MatmulKernel::small, kF32Small, 0.8},
}};

// What a block costs beside its products, as depth: filling the stages and the epilogue; with
// several parts, writing an f32 sum and reading it again (8 bytes an element at about 150 FLOPs a
// byte, half of which meets the second-level cache).
constexpr double kBlockDepth = 64;
constexpr double kSplitDepth = 320;
constexpr int64_t kMostSplits = 16;
constexpr int64_t kLeastSplitDepth = 256;
constexpr int64_t kDepthUnit = 64;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

std::span<const Candidate> candidates(DType compute) {
    if (compute == DType::bf16) {
        return kBf16Candidates;
    }
    return kF32Candidates;
}

/// Time of the busiest multiprocessor, in any unit.
double cost(const Candidate& candidate, int64_t m, int64_t n, int64_t depth, int64_t splits,
            const DeviceProfile& device) {
    const MatmulTile& tile = candidate.tile;
    const int64_t blocks = divide_up(m, tile.rows) * divide_up(n, tile.columns) * splits;
    const double block_depth =
        static_cast<double>(depth) + kBlockDepth + (splits > 1 ? kSplitDepth : 0);
    return static_cast<double>(divide_up(blocks, device.num_multiprocessors) * tile.rows *
                               tile.columns) *
           block_depth / candidate.rate;
}

/// Generation's form, rows of whole 16-byte pieces.
bool is_for_few_rows(const Matmul& op, const MatmulPlan& plan) {
    const int64_t piece = 16 / size_of(op.a.dtype());
    return plan.m <= kMostFewRows && !op.transpose_a && op.transpose_b && plan.k % piece == 0;
}

}  // namespace

MatmulPlan plan_matmul(const Matmul& op, const DeviceProfile& device) {
    MatmulPlan plan;
    plan.m = op.transpose_a ? op.a.columns() : op.a.rows();
    plan.k = op.transpose_a ? op.a.rows() : op.a.columns();
    plan.n = op.transpose_b ? op.b.rows() : op.b.columns();
    plan.split_depth = plan.k;
    if (is_for_few_rows(op, plan)) {
        plan.kernel = MatmulKernel::few_rows;
        return plan;
    }
    const int64_t most_splits = std::clamp<int64_t>(plan.k / kLeastSplitDepth, 1, kMostSplits);
    double least = 0;
    for (int64_t splits = 1; splits <= most_splits; ++splits) {
        const int64_t depth =
            splits == 1 ? plan.k : divide_up(divide_up(plan.k, splits), kDepthUnit) * kDepthUnit;
        for (const Candidate& candidate : candidates(op.a.dtype())) {
            const int64_t bytes = candidate.tile.stage_bytes(size_of(op.a.dtype()));
            const double time = cost(candidate, plan.m, plan.n, depth, splits, device);
            if (bytes <= device.shared_memory_per_block && (least == 0 || time < least)) {
                least = time;
                plan.kernel = candidate.kernel;
                plan.splits = std::max<int64_t>(divide_up(plan.k, std::max<int64_t>(depth, 1)), 1);
                plan.split_depth = depth;
            }
        }
    }
    plan.partial_bytes = plan.splits > 1 ? plan.splits * plan.m * plan.n * size_of(DType::f32) : 0;
    return plan;
}

int64_t cublas_workspace_bytes(const DeviceProfile& device) {
    // What NVIDIA advises: Hopper's kernels use more.
    return int64_t{device.compute_capability >= 90 ? 32 : 4} << 20;
}

bool needs_cublas_pre_activation(const Matmul& op) {
    return op.activation != Activation::none && !op.pre_activation;
}

int64_t workspace_bytes(const Matmul& op, const DeviceProfile& device) {
    if (device.matmul == MatmulLibrary::native) {
        return plan_matmul(op, device).partial_bytes;
    }
    const int64_t pre_activation =
        needs_cublas_pre_activation(op) ? op.d.size() * size_of(op.a.dtype()) : 0;
    return cublas_workspace_bytes(device) + pre_activation;
}

}  // namespace lathe::cuda
