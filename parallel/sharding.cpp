#include "parallel/sharding.h"

#include <algorithm>

namespace lathe {
namespace {

/// Part `index` of `count` equal runs of whole chunks that cover `range`; the last parts may be
/// short or empty.
Range part_of(Range range, int count, int index) {
    const int64_t chunks = (range.size() + kChunkElements - 1) / kChunkElements;
    const int64_t part = (chunks + count - 1) / count * kChunkElements;
    return {std::min(range.begin + index * part, range.end),
            std::min(range.begin + (index + 1) * part, range.end)};
}

}  // namespace

Range intersect(Range a, Range b) {
    const int64_t begin = std::clamp(b.begin, a.begin, a.end);
    return {begin, std::clamp(b.end, begin, a.end)};
}

Tensor slice(const Tensor& tensor, Range range, int64_t origin) {
    return tensor.slice(range.begin - origin, range.end - origin);
}

void ParallelConfig::validate(int world_size) const {
    LATHE_CHECK_USAGE(zero_stage >= 0 && zero_stage <= 3, "zero-stage = {}: must be 0, 1, 2 or 3",
                      zero_stage);
    LATHE_CHECK_USAGE(shard_size >= 0 && (shard_size == 0 || world_size % shard_size == 0),
                      "shard-size = {}: must divide the number of ranks, {}", shard_size,
                      world_size);
}

Sharding::Sharding(const ParallelConfig& config, int world_size, int rank)
    : stage_(config.zero_stage),
      shard_size_(config.shard_size == 0 ? world_size : static_cast<int>(config.shard_size)),
      world_size_(world_size),
      rank_(rank) {
    config.validate(world_size);
}

Range Sharding::shard(int64_t unit_size, int rank) const {
    return part_of({0, unit_size}, shard_size_, shard_of(rank));
}

Range Sharding::owned(int64_t unit_size, int rank) const {
    return part_of(shard(unit_size, rank), num_replicas(), replica_of(rank));
}

Range Sharding::optimizer_range(int64_t unit_size) const {
    return shards_optimizer() ? shard(unit_size, rank_) : Range{0, unit_size};
}

Range Sharding::parameter_range(int64_t unit_size) const {
    return shards_parameters() ? shard(unit_size, rank_) : Range{0, unit_size};
}

std::vector<int> Sharding::owners_in_order() const {
    std::vector<int> owners;
    for (int shard = 0; shard < shard_size_; ++shard) {
        for (int replica = 0; replica < num_replicas(); ++replica) {
            owners.push_back(replica * shard_size_ + shard);
        }
    }
    return owners;
}

ProcessGroups::ProcessGroups(Communicator& world, const ParallelConfig& config)
    : world_(world), sharding_(config, world.size(), world.rank()) {
    if (sharding_.num_replicas() > 1) {
        shard_group_ = world.split(sharding_.replica_of(world.rank()), world.rank());
    }
    if (sharding_.shard_size() > 1) {
        replica_group_ = world.split(sharding_.shard_of(world.rank()), world.rank());
    }
}

}  // namespace lathe
