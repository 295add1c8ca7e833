#include "train/step_end.h"

#include <algorithm>
#include <cstring>
#include <span>

namespace lathe {

AgreedStepEnd agree(Communicator& world, const StepEnd& mine, const std::string& checkpoint,
                    int64_t step) {
    std::string message(sizeof(mine), '\0');
    std::memcpy(message.data(), &mine, sizeof(mine));
    message += checkpoint;
    AgreedStepEnd agreed;
    StepEnd& largest = agreed.largest;
    for (const auto& bytes : world.all_gather_bytes(std::as_bytes(std::span(message)),
                                                    {.tensor = "the step's end", .step = step})) {
        StepEnd theirs;
        std::memcpy(&theirs, bytes.data(), sizeof(theirs));
        largest.signal = std::max(largest.signal, theirs.signal);
        largest.sent_bytes = std::max(largest.sent_bytes, theirs.sent_bytes);
        largest.exposed_communication_s =
            std::max(largest.exposed_communication_s, theirs.exposed_communication_s);
        largest.outdone = std::max(largest.outdone, theirs.outdone);
        agreed.checkpoint.emplace_back(reinterpret_cast<const char*>(bytes.data()) + sizeof(theirs),
                                       bytes.size() - sizeof(theirs));
    }
    return agreed;
}

}  // namespace lathe
