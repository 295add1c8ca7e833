#include "parallel/gather_in_turn.h"

#include <cstring>
#include <span>

namespace lathe {

std::vector<double> gather_in_turn(Communicator& world, const std::vector<double>& mine,
                                   int64_t count, const CollectiveLabel& label) {
    const auto all = world.all_gather_bytes(std::as_bytes(std::span<const double>(mine)), label);
    std::vector<double> ordered(static_cast<size_t>(count));
    for (size_t i = 0; i < ordered.size(); ++i) {
        const auto rank = i % all.size();
        const auto place = i / all.size() * sizeof(double);
        LATHE_CHECK(place + sizeof(double) <= all[rank].size(), "{}: rank {} has sent too few",
                    label.tensor, rank);
        std::memcpy(&ordered[i], all[rank].data() + place, sizeof(double));
    }
    return ordered;
}

}  // namespace lathe
