// Numbers of work that was dealt to the ranks in turn, brought back into the work's own order.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/communicator.h"

namespace lathe {

/// Item i of `count` was done by rank i mod size; `mine` are this rank's results in order. Returns
/// all results in order of i, on every rank.
std::vector<double> gather_in_turn(Communicator& world, const std::vector<double>& mine,
                                   int64_t count, const CollectiveLabel& label);

}  // namespace lathe
