// The ordered sum: owners receive one round's gradients and add them in rank order. As micro-batch
// i is run by rank i mod ranks, each element's sum runs left to right over i, whatever the number
// of ranks.
#include <algorithm>
#include <utility>

#include "parallel/gradient_reducer.h"

namespace lathe {
namespace {

class OrderedReducer final : public GradientReducer {
  public:
    OrderedReducer(const ParallelConfig& config, const ParamLayout& layout, Backend& backend,
                   ProcessGroups& groups, DType accumulation)
        : config_(config),
          layout_(layout),
          backend_(backend),
          groups_(groups),
          sharding_(groups.sharding()),
          accumulation_(accumulation),
          exchange_dtype_(config.gradient_dtype == DType::f32 ? accumulation
                                                              : config.gradient_dtype),
          compute_(backend),
          communication_(backend),
          in_flight_(backend),
          sums_(static_cast<size_t>(layout.num_units())),
          owned_(static_cast<size_t>(layout.num_units())) {}

    void add(int unit, Buffer gradient, int num_active, int64_t step) override {
        if (gradient && exchange_dtype_ != accumulation_) {
            Buffer rounded = backend_.allocate(gradient.tensor().shape(), exchange_dtype_,
                                               MemoryCategory::gradients);
            compute_.run(Cast{.x = gradient, .y = rounded});
            gradient = std::move(rounded);
        }
        Buffer& sum = sums_[static_cast<size_t>(unit)];
        if (sharding_.world_size() == 1 && !sum && exchange_dtype_ == accumulation_) {
            sum = std::move(gradient);  // assigned, without moving a byte
            return;
        }
        const bool first = !sum;
        const Range owned = sharding_.owned(unit_size(unit), sharding_.rank());
        if (first) {
            sum = backend_.allocate({owned.size()}, accumulation_, MemoryCategory::gradients);
        }
        std::vector<Buffer> used;
        const int64_t piece = piece_elements(unit);
        const int64_t most = largest_owned(unit);
        for (int64_t offset = 0; offset < most; offset += piece) {
            used.push_back(
                exchange(unit, gradient, {offset, offset + piece}, num_active, step, first));
        }
        used.push_back(std::move(gradient));
        in_flight_.keep(std::move(used), backend_.record(Stream::communication));
        in_flight_.drain(kUnitsInFlight);
    }

    void finish(int64_t) override { in_flight_.drain(0); }

    Tensor owned(int unit) const override { return sums_[static_cast<size_t>(unit)]; }

    Buffer take(int unit, int64_t step) override {
        Buffer& sum = sums_[static_cast<size_t>(unit)];
        const Range target = sharding_.optimizer_range(unit_size(unit));
        const Range mine = sharding_.owned(unit_size(unit), sharding_.rank());
        const int holders =
            sharding_.shards_optimizer() ? sharding_.num_replicas() : sharding_.world_size();
        if (holders == 1) {
            return std::move(sum);
        }
        Buffer whole = backend_.allocate({target.size()}, accumulation_, MemoryCategory::gradients);
        backend_.wait(Stream::communication, backend_.record(Stream::compute));
        if (!mine.empty()) {
            backend_.copy(slice(whole, mine, target.begin), sum, Stream::communication);
        }
        std::vector<Tensor> parts;
        Communicator& group =
            sharding_.shards_optimizer() ? groups_.replica_group() : groups_.world();
        for (int member = 0; member < holders; ++member) {
            const int rank = sharding_.shards_optimizer() ? member * sharding_.shard_size() +
                                                                sharding_.shard_of(sharding_.rank())
                                                          : member;
            parts.push_back(slice(whole, sharding_.owned(unit_size(unit), rank), target.begin));
        }
        group.all_gather(parts, label(unit, step));
        backend_.wait(Stream::compute, backend_.record(Stream::communication));
        sum.reset();
        return whole;
    }

    void discard() override {
        in_flight_.drain(0);
        for (Buffer& sum : sums_) {
            sum.reset();
        }
    }

  private:
    int64_t unit_size(int unit) const { return layout_.units()[static_cast<size_t>(unit)].size; }

    CollectiveLabel label(int unit, int64_t step) const {
        return {.tensor = "gradients of " + layout_.units()[static_cast<size_t>(unit)].name,
                .step = step};
    }

    /// Elements of each owner's range that one bucket carries: whole chunks, the bucket shared
    /// evenly by the owners.
    int64_t piece_elements(int unit) const {
        const int64_t wanted =
            std::min(config_.bucket_elements, unit_size(unit)) / sharding_.world_size();
        return std::max<int64_t>(1, wanted / kChunkElements) * kChunkElements;
    }

    int64_t largest_owned(int unit) {
        int64_t most = 0;
        for (const Range owned : owned_ranges(unit)) {
            most = std::max(most, owned.size());
        }
        return most;
    }

    /// What each rank owns of a unit, found once: exchanges ask for it often.
    const std::vector<Range>& owned_ranges(int unit) {
        std::vector<Range>& ranges = owned_[static_cast<size_t>(unit)];
        for (int rank = static_cast<int>(ranges.size()); rank < sharding_.world_size(); ++rank) {
            ranges.push_back(sharding_.owned(unit_size(unit), rank));
        }
        return ranges;
    }

    /// The part of an owned range that lies at `piece`, counted from the range's start.
    static Range piece_of(Range owned, Range piece) {
        return intersect(owned, {owned.begin + piece.begin, owned.begin + piece.end});
    }

    /// Sends each owner its piece of this rank's gradient, and adds what arrives to this rank's own
    /// piece in rank order. Returns the staging memory, in use until the communication stream is
    /// done.
    Buffer exchange(int unit, const Tensor& gradient, Range piece, int num_active, int64_t step,
                    bool assign) {
        const int me = sharding_.rank();
        const std::vector<Range>& owned = owned_ranges(unit);
        const Range mine = piece_of(owned[static_cast<size_t>(me)], piece);
        send_.assign(static_cast<size_t>(sharding_.world_size()), Tensor());
        receive_.assign(send_.size(), Tensor());
        contributions_.clear();
        Buffer staging =
            backend_.allocate({std::max(num_active - (me < num_active ? 1 : 0), 0), mine.size()},
                              exchange_dtype_, MemoryCategory::communication);
        backend_.wait(Stream::communication, backend_.record(Stream::compute));
        const Tensor arrived = staging.tensor().flat();
        int64_t arrival = 0;
        for (int rank = 0; rank < sharding_.world_size(); ++rank) {
            const auto index = static_cast<size_t>(rank);
            if (rank == me) {
                if (me < num_active) {
                    contributions_.push_back(slice(gradient, mine));
                }
                continue;
            }
            if (me < num_active) {
                send_[index] = slice(gradient, piece_of(owned[index], piece));
            }
            if (rank < num_active) {
                receive_[index] = arrived.slice(arrival, arrival + mine.size());
                contributions_.push_back(receive_[index]);
                arrival += mine.size();
            }
        }
        if (sharding_.world_size() > 1) {
            groups_.world().all_to_all(send_, receive_, label(unit, step));
        }
        if (!mine.empty()) {
            const Tensor sum =
                slice(sums_[static_cast<size_t>(unit)], mine, owned[static_cast<size_t>(me)].begin);
            communication_.run(
                Accumulate{.sum = sum, .contributions = contributions_, .assign = assign},
                Stream::communication);
        }
        return staging;
    }

    ParallelConfig config_;
    const ParamLayout& layout_;
    Backend& backend_;
    ProcessGroups& groups_;
    const Sharding& sharding_;
    DType accumulation_;
    DType exchange_dtype_;
    Workspace compute_;
    Workspace communication_;
    InFlight in_flight_;
    std::vector<Buffer> sums_;
    std::vector<std::vector<Range>> owned_;  ///< by unit and rank
    // One exchange's, here for their memory.
    std::vector<Tensor> send_;
    std::vector<Tensor> receive_;
    std::vector<Tensor> contributions_;
};

}  // namespace

std::unique_ptr<GradientReducer> make_ordered_reducer(const ParallelConfig& config,
                                                      const ParamLayout& layout, Backend& backend,
                                                      ProcessGroups& groups, DType accumulation) {
    return std::make_unique<OrderedReducer>(config, layout, backend, groups, accumulation);
}

}  // namespace lathe
