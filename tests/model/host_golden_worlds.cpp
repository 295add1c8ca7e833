#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/model/golden_worlds.h"

namespace lathe {

const std::vector<GoldenWorld>& golden_worlds() {
    static const std::vector<GoldenWorld> kAll = {
        {"reference_f64", DType::f64, make_reference_backend},
        {"cpu_f32", DType::f32, [] { return make_cpu_backend(2); }},
    };
    return kAll;
}

}  // namespace lathe
