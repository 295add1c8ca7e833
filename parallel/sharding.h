// Sharding: which elements of a unit belong to which rank.
//
// World = replicas x shards. Rank r holds shard r mod F of replica r / F, F the shard size, so that
// a shard group is a run of neighbouring ranks. A unit is cut into F shards of whole chunks (the
// last ones possibly short or empty). For the sum of gradients each shard is cut again over the
// replicas, so that every element is summed at exactly one rank: its owner. In memory order the
// owners of a unit are: shard 0 at replica 0, 1, ..., shard 1 at replica 0, 1, ...
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/parallel_config.h"

namespace lathe {

/// Elements [begin, end) of a unit's row.
struct Range {
    int64_t begin = 0;
    int64_t end = 0;

    int64_t size() const { return end - begin; }
    bool empty() const { return begin >= end; }
    bool operator==(const Range&) const = default;
};

/// The part of `a` that is in `b`; where there is none, an empty range inside `a`.
Range intersect(Range a, Range b);
/// `tensor`'s elements [range.begin - origin, range.end - origin), flat.
Tensor slice(const Tensor& tensor, Range range, int64_t origin = 0);

class Sharding {
  public:
    Sharding(const ParallelConfig& config, int world_size, int rank);

    int world_size() const { return world_size_; }
    int rank() const { return rank_; }
    int shard_size() const { return shard_size_; }
    int num_replicas() const { return world_size_ / shard_size_; }
    int shard_of(int rank) const { return rank % shard_size_; }
    int replica_of(int rank) const { return rank / shard_size_; }
    bool shards_optimizer() const { return stage_ >= 1; }
    /// Whether summed gradients may exist only as shards (a native reduction then scatters every
    /// micro-batch's).
    bool shards_gradients() const { return stage_ >= 2; }
    bool shards_parameters() const { return stage_ >= 3; }

    /// The shard of a unit of `unit_size` elements that `rank` holds.
    Range shard(int64_t unit_size, int rank) const;
    /// The part of it that `rank` sums gradients of.
    Range owned(int64_t unit_size, int rank) const;
    /// The optimizer state, and the parameters, that this rank holds.
    Range optimizer_range(int64_t unit_size) const;
    Range parameter_range(int64_t unit_size) const;
    /// Ranks in the order of the elements they own.
    std::vector<int> owners_in_order() const;

  private:
    int64_t stage_;
    int shard_size_;
    int world_size_;
    int rank_;
};

/// The world and this rank's two groups: the ranks that together hold one replica, and those that
/// hold the same shard.
class ProcessGroups {
  public:
    ProcessGroups(Communicator& world, const ParallelConfig& config);

    const Sharding& sharding() const { return sharding_; }
    Communicator& world() { return world_; }
    Communicator& shard_group() { return shard_group_ ? *shard_group_ : world_; }
    Communicator& replica_group() { return replica_group_ ? *replica_group_ : world_; }

  private:
    Communicator& world_;
    Sharding sharding_;
    std::unique_ptr<Communicator> shard_group_;    ///< absent: the world itself
    std::unique_ptr<Communicator> replica_group_;  ///< absent: the world itself
};

}  // namespace lathe
