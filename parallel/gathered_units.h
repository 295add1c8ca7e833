// GatheredUnits: full rows of parameters. Below stage 3 they are simply there; at stage 3 a row is
// gathered from the shard group when it is acquired, or one unit ahead, and given back when it is
// released.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "model/param_layout.h"
#include "parallel/sharding.h"

namespace lathe {

class GatheredUnits {
  public:
    GatheredUnits(const ParamLayout& layout, Backend& backend, ProcessGroups& groups, DType compute,
                  bool prefetch);

    /// The unit's parameters on this rank: the whole row below stage 3, else its shard.
    void set_local(int unit, const Tensor& local) {
        units_[static_cast<size_t>(unit)].local = local;
    }

    Tensor acquire(int unit);
    void release(int unit);
    /// After an update: below stage 3, brings the other ranks' shards into the whole row; drops
    /// what was prefetched.
    void refresh(int unit);
    /// Has the compute stream wait until the unit's local row is up to date.
    void settle(int unit) { wait_for(units_[static_cast<size_t>(unit)]); }
    /// The step that failures name.
    void set_step(int64_t step) { step_ = step; }

  private:
    struct Unit {
        Tensor local;
        Buffer full;  ///< stage 3 only, while gathered
        Event ready;  ///< when the communication stream has brought the row up to date
        bool pending = false;
        int users = 0;
    };

    void gather(int unit);
    void gather_into(int unit, const Tensor& row);
    void wait_for(Unit& unit);
    void drop(int unit);
    void prefetch_after(int unit);

    const ParamLayout& layout_;
    Backend& backend_;
    ProcessGroups& groups_;
    const Sharding& sharding_;
    DType compute_;
    bool prefetch_;
    int64_t step_ = 1;
    std::vector<Unit> units_;
    /// What followed the last time that these two units were acquired one after the other. The same
    /// on every rank, so that all gather in the same order.
    std::map<std::pair<int, int>, int> followers_;
    std::pair<int, int> last_two_ = {-1, -1};
    int prefetched_ = -1;  ///< gathered ahead and not acquired yet
};

}  // namespace lathe
