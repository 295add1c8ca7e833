// The backends on which a rank of mpi_communicator_test runs its cases.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "parallel/launch.h"

namespace lathe::test {

using MakeRankBackend = std::function<std::unique_ptr<Backend>(const RankPlace& place)>;

std::vector<MakeRankBackend> rank_backends();

}  // namespace lathe::test
