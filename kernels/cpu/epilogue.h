// What Matmul does to a tile of sums while it is still in cache.
#pragma once

#include "kernels/operations.h"

namespace lathe::cpu {

/// d[row : row + rows, column : column + columns] of `op` from its sums [rows, sums_stride]: bias,
/// activation, residual and rounding, or accumulation.
void apply_epilogue(const Matmul& op, const float* sums, int64_t sums_stride, int64_t row,
                    int64_t rows, int64_t column, int64_t columns);

}  // namespace lathe::cpu
