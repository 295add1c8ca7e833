#include "parallel/gathered_units.h"

namespace lathe {

GatheredUnits::GatheredUnits(const ParamLayout& layout, Backend& backend, ProcessGroups& groups,
                             DType compute, bool prefetch)
    : layout_(layout),
      backend_(backend),
      groups_(groups),
      sharding_(groups.sharding()),
      compute_(compute),
      prefetch_(prefetch),
      units_(static_cast<size_t>(layout.num_units())) {}

Tensor GatheredUnits::acquire(int unit) {
    Unit& entry = units_.at(static_cast<size_t>(unit));
    if (!sharding_.shards_parameters()) {
        wait_for(entry);
        return entry.local;
    }
    if (!entry.full) {
        gather(unit);
    }
    if (unit == prefetched_) {
        prefetched_ = -1;
    }
    ++entry.users;
    followers_[last_two_] = unit;
    last_two_ = {last_two_.second, unit};
    wait_for(entry);
    if (prefetch_) {
        prefetch_after(unit);
    }
    return entry.full;
}

void GatheredUnits::prefetch_after(int unit) {
    const auto follower = followers_.find(last_two_);
    if (follower == followers_.end() || follower->second == unit ||
        follower->second == prefetched_ || units_[static_cast<size_t>(follower->second)].full) {
        return;
    }
    if (prefetched_ >= 0) {
        drop(prefetched_);
    }
    prefetched_ = follower->second;
    gather(prefetched_);
}

void GatheredUnits::release(int unit) {
    if (!sharding_.shards_parameters()) {
        return;
    }
    Unit& entry = units_.at(static_cast<size_t>(unit));
    LATHE_CHECK(entry.users > 0, "unit {} is released but was not acquired",
                layout_.units()[static_cast<size_t>(unit)].name);
    if (--entry.users == 0) {
        entry.full.reset();
    }
}

void GatheredUnits::refresh(int unit) {
    Unit& entry = units_[static_cast<size_t>(unit)];
    if (sharding_.shards_parameters()) {
        drop(unit);
    } else if (sharding_.shards_optimizer() && sharding_.shard_size() > 1) {
        gather_into(unit, entry.local);
    }
}

void GatheredUnits::gather(int unit) {
    Unit& entry = units_[static_cast<size_t>(unit)];
    const int64_t size = layout_.units()[static_cast<size_t>(unit)].size;
    entry.full = backend_.allocate({size}, compute_, MemoryCategory::communication);
    gather_into(unit, entry.full);
}

void GatheredUnits::gather_into(int unit, const Tensor& row) {
    Unit& entry = units_[static_cast<size_t>(unit)];
    backend_.wait(Stream::communication, backend_.record(Stream::compute));
    const Range mine = sharding_.shard(row.size(), sharding_.rank());
    if (row.data() != entry.local.data() && !mine.empty()) {
        backend_.copy(slice(row, mine), entry.local, Stream::communication);
    }
    if (sharding_.shard_size() > 1) {
        std::vector<Tensor> parts;
        for (int shard = 0; shard < sharding_.shard_size(); ++shard) {
            parts.push_back(slice(row, sharding_.shard(row.size(), shard)));
        }
        const std::string& name = layout_.units()[static_cast<size_t>(unit)].name;
        groups_.shard_group().all_gather(parts, {.tensor = "parameters of " + name, .step = step_});
    }
    entry.ready = backend_.record(Stream::communication);
    entry.pending = true;
}

void GatheredUnits::wait_for(Unit& unit) {
    if (unit.pending) {
        backend_.wait(Stream::compute, unit.ready);
        unit.pending = false;
    }
}

void GatheredUnits::drop(int unit) {
    Unit& entry = units_[static_cast<size_t>(unit)];
    wait_for(entry);
    entry.full.reset();
    if (unit == prefetched_) {
        prefetched_ = -1;
    }
}

}  // namespace lathe
