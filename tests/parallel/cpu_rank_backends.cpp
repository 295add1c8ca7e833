#include "kernels/cpu/cpu_backend.h"
#include "tests/parallel/rank_backends.h"

namespace lathe::test {

std::vector<MakeRankBackend> rank_backends() {
    return {[](const RankPlace&) { return make_cpu_backend(1); },
            [](const RankPlace&) { return make_overlapping_cpu_backend(1); }};
}

}  // namespace lathe::test
