#include "parallel/gradient_reducer.h"

#include <utility>

namespace lathe {

std::unique_ptr<GradientReducer> make_gradient_reducer(const ParallelConfig& config,
                                                       const ParamLayout& layout, Backend& backend,
                                                       ProcessGroups& groups, DType accumulation) {
    return config.reduction == Reduction::native
               ? make_native_reducer(config, layout, backend, groups, accumulation)
               : make_ordered_reducer(config, layout, backend, groups, accumulation);
}

void InFlight::keep(std::vector<Buffer> buffers, Event done) {
    entries_.push_back({.buffers = std::move(buffers), .done = done});
}

void InFlight::drain(size_t count) {
    while (entries_.size() > count) {
        backend_.wait(Stream::compute, entries_.front().done);
        entries_.pop_front();
    }
}

}  // namespace lathe
