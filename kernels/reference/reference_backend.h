// The reference backend: naive loops, double accumulation. It is the specification that the other
// backends are held to.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace lathe {

/// Single-threaded; computes f32, bf16 and f64 tensors, always in double, rounding each output
/// once. New memory holds NaN in every type, so that a value read before it is written shows. Token
/// and target numbers out of range throw an Error.
std::unique_ptr<Backend> make_reference_backend();

}  // namespace lathe
