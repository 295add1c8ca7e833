#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/backends.h"

namespace lathe::test {

const std::vector<BackendUnderTest>& backends_under_test() {
    static const std::vector<BackendUnderTest> kAll = {
        {"cuda", [](int) { return make_cuda_backend({}); }, false},
    };
    return kAll;
}

}  // namespace lathe::test
