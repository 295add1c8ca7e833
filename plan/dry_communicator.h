// DryCommunicator: one rank's view of a world of any size in which nobody else is there. Nothing
// moves; each collective takes the time that its messages need (latency + bytes / bandwidth,
// Hockney 1994, over the links within and between nodes), in the pattern of the communicator that
// it stands for: messages between pairs over host memory, rings on GPUs.
//
// What each of the others says in host operations are the first `reply_bytes` of what this rank
// says, and zeros where it says less: as much as is read of it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "parallel/communicator.h"
#include "plan/dry_backend.h"

namespace lathe {

/// Which color a rank would give in one split of the world.
using ColorOf = std::function<int(int rank)>;

struct DryWorld {
    int size = 1;
    int rank = 0;
    int ranks_per_node = 1;       ///< rank r is on node r / ranks_per_node
    std::vector<ColorOf> splits;  ///< the world's splits, in the order in which they are made
    int64_t reply_bytes = 0;
};

std::unique_ptr<Communicator> make_dry_communicator(DryBackend& backend, const DeviceSpeed& speed,
                                                    const DryWorld& world);

}  // namespace lathe
