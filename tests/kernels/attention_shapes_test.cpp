// What the CUDA attention kernels ask for, as a dry run sees it: no GPU, no CUDA.
#include "kernels/cuda/attention_shapes.h"

#include <gtest/gtest.h>

namespace lathe::cuda {
namespace {

constexpr int64_t kBatch = 3;

/// A tensor as a dry run has it: no memory.
Tensor unbacked(DType dtype, Shape shape) { return {nullptr, dtype, shape}; }
Tensor packed(int64_t tokens, int64_t columns) {
    return unbacked(DType::bf16, {kBatch, tokens, columns});
}

Attention forward(const AttentionHeads& heads, int64_t tokens) {
    return {.heads = heads,
            .qkv = packed(tokens, heads.qkv_columns()),
            .y = packed(tokens, heads.heads * heads.head_size),
            .log_sum_exp = unbacked(DType::f32, {kBatch, heads.heads, tokens})};
}

AttentionBackward backward(const AttentionHeads& heads, int64_t tokens) {
    const Attention op = forward(heads, tokens);
    return {.heads = heads,
            .d_y = op.y,
            .qkv = op.qkv,
            .y = op.y,
            .log_sum_exp = op.log_sum_exp,
            .d_qkv = op.qkv};
}

CachedAttention cached(const AttentionHeads& heads, int64_t tokens, int64_t first) {
    const Attention op = forward(heads, tokens);
    const Tensor cache = unbacked(DType::bf16, {kBatch, heads.kv_heads, 1000, heads.head_size});
    return {.heads = heads,
            .qkv = op.qkv,
            .key_cache = cache,
            .value_cache = cache,
            .first_position = first,
            .y = op.y};
}

TEST(AttentionShapes, WorkspaceFollowsFromShapesAlone) {
    const AttentionHeads heads = {8, 2, 64};
    const DeviceProfile a100 = profile_of("a100");
    const DeviceProfile h100 = profile_of("h100");
    EXPECT_EQ(workspace_bytes(forward(heads, 77), a100), 0);
    EXPECT_EQ(workspace_bytes(backward(heads, 77), a100), 3 * 8 * 77 * 4);
    // 1000 positions are 8 parts of 128, each with a maximum, a sum and 64 elements of y.
    EXPECT_EQ(workspace_bytes(cached(heads, 1, 0), a100), 3 * 8 * 8 * (2 + 64) * 4);
    EXPECT_EQ(workspace_bytes(cached(heads, 1, 999), h100), 3 * 8 * 8 * (2 + 64) * 4);
    EXPECT_EQ(workspace_bytes(cached(heads, 5, 0), a100), 0);
}

TEST(AttentionShapes, HeadsPast256AreRefused) {
    const DeviceProfile device = profile_of("rtx4090");
    EXPECT_EQ(workspace_bytes(forward({2, 1, 256}, 9), device), 0);
    EXPECT_THROW(workspace_bytes(forward({2, 1, 257}, 9), device), UsageError);
    EXPECT_THROW(workspace_bytes(backward({2, 1, 257}, 9), device), UsageError);
    EXPECT_THROW(workspace_bytes(cached({2, 1, 257}, 1, 0), device), UsageError);
}

TEST(AttentionShapes, TensorCoresTakeBf16UpTo128) {
    EXPECT_TRUE(uses_tensor_cores(DType::bf16, 8));
    EXPECT_TRUE(uses_tensor_cores(DType::bf16, 128));
    EXPECT_FALSE(uses_tensor_cores(DType::bf16, 129));
    EXPECT_FALSE(uses_tensor_cores(DType::f32, 64));
}

}  // namespace
}  // namespace lathe::cuda
