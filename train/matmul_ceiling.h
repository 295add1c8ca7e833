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

/// The same of what only reads (a sum of squares), or of the above where that is faster. About a
/// second.
double memory_read_bandwidth(Backend& backend);

}  // namespace lathe
