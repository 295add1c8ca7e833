// Stands in for the CUDA backend in a build without CUDA.
#include "kernels/cuda/cuda_backend.h"

namespace lathe {

std::string cuda_complaint() {
    return "device cuda: this lathe was built without CUDA; install the CUDA toolkit (nvcc) and "
           "build with cmake --preset cuda, or use --device cpu";
}

int count_cuda_devices() { fail_usage("{}", cuda_complaint()); }

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions&) {
    fail_usage("{}", cuda_complaint());
}

}  // namespace lathe
