#include "kernels/cuda/attention_shapes.h"

#include "kernels/error.h"

namespace lathe::cuda {

void check_head_size(const char* operation, const AttentionHeads& heads) {
    LATHE_CHECK_USAGE(heads.head_size <= kLargestHead,
                      "{}: head_size {} is more than {}, the most that device cuda takes; use more "
                      "heads or --device cpu",
                      operation, heads.head_size, kLargestHead);
}

int64_t workspace_bytes(const Attention& op, const DeviceProfile&) {
    check_head_size("Attention", op.heads);
    return 0;
}

/// delta, [B, H, T] floats.
int64_t workspace_bytes(const AttentionBackward& op, const DeviceProfile&) {
    check_head_size("AttentionBackward", op.heads);
    return op.log_sum_exp.size() * static_cast<int64_t>(sizeof(float));
}

/// Of every part of the positions: maximum, sum and y, floats.
int64_t workspace_bytes(const CachedAttention& op, const DeviceProfile&) {
    check_head_size("CachedAttention", op.heads);
    if (!is_split(op)) {
        return 0;
    }
    const int64_t parts = (op.key_cache.shape()[2] + kSplitKeys - 1) / kSplitKeys;
    const int64_t rows = op.qkv.shape()[0] * op.heads.heads;
    return rows * parts * (2 + op.heads.head_size) * static_cast<int64_t>(sizeof(float));
}

}  // namespace lathe::cuda
