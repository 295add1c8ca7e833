#include "kernels/cuda/cuda_backend.h"
#include "tests/model/golden_worlds.h"

namespace lathe {

const std::vector<GoldenWorld>& golden_worlds() {
    static const std::vector<GoldenWorld> kAll = {
        {"cuda_f32", DType::f32, [] { return make_cuda_backend({}); }},
    };
    return kAll;
}

}  // namespace lathe
