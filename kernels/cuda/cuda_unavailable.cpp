// Stands in for the CUDA backend in a build without CUDA.
#include "kernels/cuda/cuda_backend.h"

namespace lathe {
namespace {

[[noreturn]] void fail_without_cuda() {
    fail_usage(
        "device cuda: this lathe was built without CUDA; install the CUDA toolkit (nvcc) and build "
        "with cmake --preset cuda, or use --device cpu");
}

}  // namespace

int count_cuda_devices() { fail_without_cuda(); }

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions&) { fail_without_cuda(); }

}  // namespace lathe
