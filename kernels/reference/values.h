// How the reference reads and writes tensors: everything is computed on vectors of double.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tensor.h"

namespace lathe::reference {

/// All elements, in order, exactly.
std::vector<double> load(const Tensor& tensor);
/// All elements of an i32 tensor.
std::vector<int32_t> load_integers(const Tensor& tensor);
/// Assigns all elements, each rounded once to the tensor's type (nearest even).
void store(const Tensor& tensor, std::span<const double> values);
/// The value nearest to `value` (ties to even) that the type can hold.
double rounded(double value, DType dtype);

}  // namespace lathe::reference
