// Calibration: this machine's CPU as a hardware description, measured through the real backend.
#pragma once

#include "plan/hardware.h"

namespace lathe {

/// Rates with `threads` threads (0: all that the process may use), fractions for computing in
/// `compute`. Some seconds. Links between nodes are those of 1 Gb/s Ethernet: assumed.
Hardware measure_this_cpu(int threads, DType compute);

}  // namespace lathe
