#pragma once
#include <nccl.h>

#include <vector>

#include "kernels/ptxemu/interpreter/types.h"

namespace ptxemu {

// out = in[0] op in[1] op ... elementwise, in that order; every element is first multiplied by
// `scale`.
void reduce_elements(u8* out, const std::vector<const u8*>& in, size_t n, ncclDataType_t type,
                     int op, double scale);

}  // namespace ptxemu
