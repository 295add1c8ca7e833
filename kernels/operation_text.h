// What tells calls of one operation apart, in a few words: shapes, layout, types, epilogue.
#pragma once

#include <string>

#include "kernels/operations.h"

namespace lathe {

/// "8x256x384 bf16"; empty for an absent tensor.
std::string shape_text(const Tensor& tensor);

/// Of a product "2048x1152x384 NT bf16 +bias" (M x N x K'; N as it lies, T transposed).
#define LATHE_DECLARE_SHAPE_TEXT(Operation) std::string shape_text(const Operation& op);
LATHE_OPERATIONS(LATHE_DECLARE_SHAPE_TEXT)
#undef LATHE_DECLARE_SHAPE_TEXT

}  // namespace lathe
