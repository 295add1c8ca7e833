#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"

namespace lathe::cuda {

void CudaBackend::execute(const Gelu&, Stream) { fail("Gelu: no kernel"); }

void CudaBackend::execute(const GeluBackward&, Stream) { fail("GeluBackward: no kernel"); }

void CudaBackend::execute(const Swiglu&, Stream) { fail("Swiglu: no kernel"); }

void CudaBackend::execute(const SwigluBackward&, Stream) { fail("SwigluBackward: no kernel"); }

}  // namespace lathe::cuda
