#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"

namespace lathe::cuda {

void CudaBackend::execute(const Embedding&, Stream) { fail("Embedding: no kernel"); }

void CudaBackend::execute(const EmbeddingBackward&, Stream) {
    fail("EmbeddingBackward: no kernel");
}

}  // namespace lathe::cuda
