// Tiles of the attention kernels, and which kernels serve which arguments.
#pragma once

#include <cstdint>

#include "kernels/cuda/device_profile.h"

namespace lathe::cuda {

/// The least that a device of compute capability 8.0 or newer lends a block, with opt-in: every
/// tile below fits it, so none depends on the device.
inline constexpr int kSmallestSharedBytes = 101376;

/// Head sizes are padded with zeros to one of these; bf16 takes tensor cores up to the second.
inline constexpr int kHeadSizes[] = {64, 128, 256};
inline constexpr int kLargestHead = 256;
inline constexpr int kLargestTensorCoreHead = 128;

/// Tensor cores, forward: a block owns 128 queries, 32 a warp, and streams keys and values in two
/// stages. The smaller head leaves the registers for its queries, and for more scores a step.
template <int kHead>
struct ForwardTile {
    static constexpr int kWarps = 4;
    static constexpr int kRowTiles = 2;  ///< of 16 rows, a warp
    static constexpr int kWarpRows = 16 * kRowTiles;
    static constexpr int kRows = kWarps * kWarpRows;
    static constexpr int kThreads = 32 * kWarps;
    static constexpr int kStages = 2;
    static constexpr bool kHoldQueries = kHead == 64;
    static constexpr int kKeys = kHead == 64 ? 64 : 32;  ///< a step
    static constexpr int kSharedBytes = (kRows + kStages * 2 * kKeys) * kHead * 2;
    static_assert(kSharedBytes <= kSmallestSharedBytes);
};

/// Tensor cores, backward: both kernels own 128 rows (keys for d_k and d_v, queries for d_q) and
/// stream the other kind, two tensors in two stages. At head size 64 a warp owns 32 rows, so that
/// what it loads from shared memory serves twice as many products; at 128 the sums leave room for
/// 16 rows.
template <int kHead>
struct BackwardTile {
    static constexpr int kRows = 128;
    static constexpr int kRowTiles = kHead == 64 ? 2 : 1;
    static constexpr int kWarpRows = 16 * kRowTiles;
    static constexpr int kWarps = kRows / kWarpRows;
    static constexpr int kThreads = 32 * kWarps;
    static constexpr int kRowBytes = kHead * 2;
    static constexpr int kStages = 2;

    /// d_k and d_v: values stay in shared memory; so do keys, or at head size 128 in registers.
    static constexpr int kQueries = 32;
    static constexpr bool kHoldKeys = kRowTiles == 1;
    static constexpr int kQueryRingRows = kStages * 2 * kQueries;
    static constexpr int kStatisticsBytes = kStages * 2 * kQueries * 4;
    static constexpr int kKeysSharedBytes =
        ((kHoldKeys ? 1 : 2) * kRows + kQueryRingRows) * kRowBytes + kStatisticsBytes;
    static_assert(!kHoldKeys || kQueryRingRows >= kRows, "keys pass through the ring");
    static_assert(kKeysSharedBytes <= kSmallestSharedBytes);

    /// d_q: queries and d_y in registers; they pass through the memory of the ring.
    static constexpr int kKeys = kHead == 64 ? 32 : 64;
    static constexpr int kKeyRingRows = kStages * 2 * kKeys;
    static constexpr int kQueriesSharedBytes =
        (kKeyRingRows > 2 * kRows ? kKeyRingRows : 2 * kRows) * kRowBytes;
    static_assert(kQueriesSharedBytes <= kSmallestSharedBytes);
};

/// Without tensor cores, sums in f32: square tiles, each thread 4 rows and every 16th column.
template <int kHead>
struct GeneralTile {
    static constexpr int kRows = kHead <= 128 ? 32 : 16;
    static constexpr int kThreads = kRows / 4 * 16;
    static constexpr int kStride = kHead + 4;        ///< floats: rows lie in different banks
    static constexpr int kWeightStride = kRows + 4;  ///< floats
    static constexpr int shared_bytes(int tiles) {
        return (tiles * kRows * kStride + kRows * kWeightStride) * 4;
    }
    static_assert(shared_bytes(4) <= kSmallestSharedBytes);
};

/// Decoding: a block takes this many keys of one key/value head and up to kSplitHeads query heads.
/// A constant, so that the bits depend on the shapes alone.
inline constexpr int kSplitKeys = 128;
inline constexpr int kSplitHeads = 4;

/// Throws UsageError when no kernel takes such heads.
void check_head_size(const char* operation, const AttentionHeads& heads);

constexpr bool uses_tensor_cores(DType compute, int64_t head_size) {
    return compute == DType::bf16 && head_size <= kLargestTensorCoreHead;
}

/// Whether one query row a sequence is split over blocks; prompts take the forward kernel.
inline bool is_split(const CachedAttention& op) { return op.qkv.shape()[1] == 1; }

}  // namespace lathe::cuda
