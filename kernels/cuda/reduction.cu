#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"

namespace lathe::cuda {

void CudaBackend::execute(const Accumulate&, Stream) { fail("Accumulate: no kernel"); }

void CudaBackend::execute(const SquaredNorm&, Stream) { fail("SquaredNorm: no kernel"); }

}  // namespace lathe::cuda
