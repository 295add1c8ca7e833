// A sum over ranks, in rank order.
#pragma once

#include <span>

#include "kernels/tensor.h"

namespace lathe {

/// sum[i] = terms[0][i] + terms[1][i] + ..., from left to right, rounded once at the end: bf16 is
/// added in f32. Each term has sum's type and size, and none is sum itself.
void ordered_sum(const Tensor& sum, std::span<const void* const> terms);

/// sum[i] = sum[i] + term[i], rounded each time: `count` elements of f32, bf16 or f64.
void add_to(void* sum, const void* term, int64_t count, DType dtype);

}  // namespace lathe
