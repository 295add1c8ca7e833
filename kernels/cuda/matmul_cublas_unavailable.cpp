// Stands in for cuBLASLt in a build without it.
#include "kernels/cuda/matmul_cublas.h"

namespace lathe::cuda {

std::unique_ptr<CublasMatmul> make_cublas_matmul() {
    fail_usage(
        "matmul cublas: this lathe was built without cuBLASLt; install the CUDA toolkit's "
        "libcublas (Debian: libcublas-dev) and configure the build anew, or use --matmul native");
}

}  // namespace lathe::cuda
