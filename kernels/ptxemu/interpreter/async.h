// What the tensor copies need from the mbarrier code.
#pragma once
#include "kernels/ptxemu/interpreter/core.h"

namespace ptxemu {
void mbar_tx(Block& b, u32 mbar, i32 bytes);  // + expects, - completes
}
