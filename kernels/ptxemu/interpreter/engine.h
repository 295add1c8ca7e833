// Stepping of one warp.
#pragma once
#include "kernels/ptxemu/interpreter/core.h"

namespace ptxemu {

enum class Stop { Finished, Blocked, Quantum };
// Runs a warp for at most so many instructions. Count: for the statistics.
template <bool Count>
Stop run_warp(Warp& w, u64 quantum);

}  // namespace ptxemu
