// What copies need from the mbarrier code.
#pragma once
#include "kernels/ptxemu/interpreter/decode.h"

namespace ptxemu {

void mbar_tx(Block& b, u32 mbar, i32 bytes);  // + expects, - completes
// The address of an mbarrier, checked.
u32 mbar_addr(Warp& w, const Ins& i, int lane, u64 address);
Ctl cp_async_arrive(Warp& w, const Ins& i, u32 m);
bool dec_mbar(Dec& d);  // of dec_async

}  // namespace ptxemu
