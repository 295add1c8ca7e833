#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"

namespace lathe::cuda {

void CudaBackend::execute(const AdamW&, Stream) { fail("AdamW: no kernel"); }

}  // namespace lathe::cuda
