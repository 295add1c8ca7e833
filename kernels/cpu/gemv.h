// Matrix products with few rows, as in generation: bound by the memory that holds b.
#pragma once

#include "kernels/operations.h"

namespace lathe::cpu {

/// sums[m, stride] = a[m, K'] b[K', begin : end] with f32 sums; `a` dense f32 rows, b as in Matmul.
/// Each sum's order depends on K' and the transposes only.
void multiply_few_rows(const Matmul& op, const float* a, int64_t m, int64_t k, int64_t begin,
                       int64_t end, float* sums, int64_t stride);

/// destination[i] = source[i] as f32; source f32 or bf16, `stride` elements apart.
void widen_strided(float* destination, const Tensor& source, int64_t offset, int64_t stride,
                   int64_t n);

}  // namespace lathe::cpu
