// What a device can do at best, measured: the scale of utilisation.
#pragma once

#include "kernels/backend.h"

namespace lathe {

/// FLOP/s of large square matrix products through the backend (2 n^3 each), operands in `dtype`:
/// the best of several. Products grow up to n = 8192 while they are quick and fit into memory, so
/// that a fast device shows its rate and a slow one is measured in about a second too. Takes about
/// half a second, and frees its memory: call it after the first optimizer step, not before.
double matmul_ceiling(Backend& backend, DType dtype);

/// Bytes moved a second (read and written) by large vector additions through the backend, the best
/// of several. About half a second.
double memory_bandwidth(Backend& backend);

/// How fast a device reads its memory now. Beside other programs that changes within seconds, so
/// what is compared with it is to run in turns with it.
class MemoryReadProbe {
  public:
    /// Holds `bytes` (in whole chunks of squared sums, at least one) of the backend's memory.
    MemoryReadProbe(Backend& backend, int64_t bytes);
    /// Bytes a second of one reading of them all (a sum of squares).
    double measure();

  private:
    Backend& backend_;
    Buffer x_;
    Buffer partial_;
};

}  // namespace lathe
