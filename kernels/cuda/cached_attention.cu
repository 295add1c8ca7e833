#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"

namespace lathe::cuda {

void CudaBackend::execute(const CachedAttention&, Stream) { fail("CachedAttention: no kernel"); }

}  // namespace lathe::cuda
