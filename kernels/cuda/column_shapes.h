// How sums over the rows of a matrix are cut: chunks of rows, then a sum of the chunks' partial
// sums. Functions of the shape and the device, so the same bits on every run.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/device_profile.h"

namespace lathe::cuda {

/// Elements of a 16-byte access.
inline int64_t pack_size(DType compute) { return 16 / size_of(compute); }

/// Columns that one warp sums.
inline int64_t column_tile(DType compute) { return 32 * pack_size(compute); }

/// Floats that one chunk's partial sums of `columns` columns take: whole packs.
inline int64_t partial_columns(DType compute, int64_t columns) {
    return (columns + pack_size(compute) - 1) / pack_size(compute) * pack_size(compute);
}

/// Chunks of rows for a kernel whose blocks sum one tile of columns over one chunk: four blocks a
/// multiprocessor, but chunks of at least 128 rows, beside which the partial sums are few bytes.
inline int64_t num_column_chunks(DType compute, int64_t rows, int64_t columns,
                                 const DeviceProfile& device) {
    const int64_t tiles =
        std::max<int64_t>((columns + column_tile(compute) - 1) / column_tile(compute), 1);
    const int64_t wanted = (4 * device.num_multiprocessors + tiles - 1) / tiles;
    return std::clamp<int64_t>((rows + 127) / 128, 1, std::max<int64_t>(wanted, 1));
}

/// Rows up to this width are kept in registers by Norm and NormBackward.
inline constexpr int64_t kMaxResidentColumns = 8192;

/// Chunks of rows for NormBackward's one pass: a block a multiprocessor, but chunks of at least 64
/// rows.
inline int64_t num_norm_chunks(int64_t rows, const DeviceProfile& device) {
    return std::clamp<int64_t>((rows + 63) / 64, 1, device.num_multiprocessors);
}

}  // namespace lathe::cuda
