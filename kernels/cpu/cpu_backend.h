// The CPU backend: oneDNN for matrix products, Highway and OpenMP for the rest, blocked flash
// attention.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace lathe {

/// f32 and bf16. Results do not depend on num_threads (at least 1).
std::unique_ptr<Backend> make_cpu_backend(int num_threads);
/// The same; what is issued to the communication stream runs beside the rest, in a thread of its
/// own that is none of `num_threads`.
std::unique_ptr<Backend> make_overlapping_cpu_backend(int num_threads);

}  // namespace lathe
