// How EmbeddingBackward cuts its work and its workspace.
#pragma once

#include <cstdint>

namespace lathe::cuda {

/// Tokens that a block of the sort ranks.
inline constexpr int64_t kSortTile = 2048;
/// The sort goes by digits of the tokens of this many bits: two passes up to 262,144 tokens.
inline constexpr int kDigitBits = 9;
inline constexpr int kDigits = 1 << kDigitBits;

inline int64_t sort_tiles(int64_t count) { return (count + kSortTile - 1) / kSortTile; }

/// Two copies of (token, position), and how often each tile has each digit.
inline int64_t sort_workspace_bytes(int64_t count) {
    return 4 * (4 * count + sort_tiles(count) * kDigits);
}

/// Rows of d_y, in the order of their tokens, that a warp adds.
inline constexpr int64_t kWindowRows = 64;

inline int64_t num_windows(int64_t count) { return (count + kWindowRows - 1) / kWindowRows; }

}  // namespace lathe::cuda
