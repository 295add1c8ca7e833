// What the ranks tell each other when a step ends: one small message for all purposes.
#pragma once

#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace lathe {

/// One rank's part; agreed, the largest of each over the ranks.
struct StepEnd {
    int64_t signal = 0;  ///< that it has received, or 0
    int64_t sent_bytes = 0;
    double exposed_communication_s = 0.0;
    int64_t outdone = 0;  ///< not 0: the matrix products' ceiling must be measured (again)
};

struct AgreedStepEnd {
    StepEnd largest;
    std::vector<std::string> checkpoint;  ///< CheckpointWriter::message() of each rank
};

/// All ranks, at the end of step `step`; the same result on all of them.
AgreedStepEnd agree(Communicator& world, const StepEnd& mine, const std::string& checkpoint,
                    int64_t step);

}  // namespace lathe
