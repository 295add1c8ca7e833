// A sum over ranks, in rank order.
#pragma once

#include <span>

#include "kernels/tensor.h"

namespace lathe {

/// sum[i] = terms[0][i] + terms[1][i] + ..., from left to right, rounded once at the end: bf16 is
/// added in f32. Each term has sum's type and size; one may be sum itself.
void ordered_sum(const Tensor& sum, std::span<const void* const> terms);

}  // namespace lathe
