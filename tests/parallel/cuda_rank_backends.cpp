#include "kernels/cuda/cuda_backend.h"
#include "tests/parallel/rank_backends.h"

namespace lathe::test {

std::vector<MakeRankBackend> rank_backends() {
    return {[](const RankPlace& place) { return make_cuda_backend({.device = place.local_rank}); }};
}

}  // namespace lathe::test
