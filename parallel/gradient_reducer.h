// GradientReducer: sums the gradients of a step's micro-batches over ranks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "model/param_layout.h"
#include "parallel/sharding.h"

namespace lathe {

/// Units whose exchange may still be going on while backward computes the next one (ordered).
inline constexpr size_t kUnitsInFlight = 2;

class GradientReducer {
  public:
    virtual ~GradientReducer() = default;

    /// Adds one round's gradients of a unit (one micro-batch on each of ranks 0 .. num_active-1).
    /// `gradient` is this rank's whole row in the accumulation type, absent where it has no
    /// micro-batch. Every rank calls it, in the same order of units.
    virtual void add(int unit, Buffer gradient, int num_active, int64_t step) = 0;
    /// After the last round: waits until all sums are there.
    virtual void finish(int64_t step) = 0;
    /// The sum over the elements that this rank owns (Sharding::owned), after finish.
    virtual Tensor owned(int unit) const = 0;
    /// Hands out the sum over the rank's optimizer range, after finish; every rank calls it once
    /// per unit, in order.
    virtual Buffer take(int unit, int64_t step) = 0;
    /// Forgets the sums.
    virtual void discard() = 0;
};

/// Ordered: each element's sum runs left to right over the global micro-batches at its owner,
/// whatever the number of ranks: equal bits. Native: all-reduce and reduce-scatter, within the
/// shard group first and then over the replicas; at stages 0 and 1 once a step. Equal to the
/// ordered sum within rounding.
std::unique_ptr<GradientReducer> make_gradient_reducer(const ParallelConfig& config,
                                                       const ParamLayout& layout, Backend& backend,
                                                       ProcessGroups& groups, DType accumulation);
std::unique_ptr<GradientReducer> make_ordered_reducer(const ParallelConfig& config,
                                                      const ParamLayout& layout, Backend& backend,
                                                      ProcessGroups& groups, DType accumulation);
std::unique_ptr<GradientReducer> make_native_reducer(const ParallelConfig& config,
                                                     const ParamLayout& layout, Backend& backend,
                                                     ProcessGroups& groups, DType accumulation);

/// Buffers that the communication stream still uses: given back once the compute stream has waited
/// for the event recorded after their last use.
class InFlight {
  public:
    explicit InFlight(Backend& backend) : backend_(backend) {}

    void keep(std::vector<Buffer> buffers, Event done);
    /// Has the compute stream wait, oldest first, until at most `count` entries remain.
    void drain(size_t count);

  private:
    struct Entry {
        std::vector<Buffer> buffers;
        Event done;
    };
    Backend& backend_;
    std::deque<Entry> entries_;
};

}  // namespace lathe
