// Reductions on the way: the classic DDP, ZeRO and hybrid (reduce-scatter inside the shard group,
// all-reduce over the replicas). Equal to the ordered sums within rounding.
#include <array>
#include <utility>

#include "parallel/gradient_reducer.h"

namespace lathe {
namespace {

class NativeReducer final : public GradientReducer {
  public:
    NativeReducer(const ParallelConfig& config, const ParamLayout& layout, Backend& backend,
                  ProcessGroups& groups, DType accumulation)
        : layout_(layout),
          backend_(backend),
          groups_(groups),
          sharding_(groups.sharding()),
          accumulation_(accumulation),
          exchange_dtype_(config.gradient_dtype == DType::f32 ? accumulation
                                                              : config.gradient_dtype),
          every_round_(sharding_.shards_gradients()),
          workspace_(backend),
          sums_(static_cast<size_t>(layout.num_units())) {}

    void add(int unit, Buffer gradient, int, int64_t step) override {
        if (!gradient && every_round_) {  // a rank without a micro-batch takes part with zeros
            gradient =
                backend_.allocate({unit_size(unit)}, accumulation_, MemoryCategory::gradients);
            backend_.fill_zero(gradient, Stream::compute);
        }
        if (every_round_) {
            gradient = scatter(unit, std::move(gradient), step);
        }
        if (gradient) {
            accumulate(unit, std::move(gradient));
        }
    }

    void finish(int64_t step) override {
        for (int unit = 0; unit < layout_.num_units(); ++unit) {
            Buffer& sum = sums_[static_cast<size_t>(unit)];
            if (!sum) {  // a rank that had no micro-batch in the whole step
                sum =
                    backend_.allocate({unit_size(unit)}, accumulation_, MemoryCategory::gradients);
                backend_.fill_zero(sum, Stream::compute);
            }
            if (!every_round_ && sharding_.shards_optimizer()) {
                sum = scatter(unit, std::move(sum), step);
            }
            Communicator& group =
                sharding_.shards_optimizer() ? groups_.replica_group() : groups_.world();
            const bool replicated = !sharding_.shards_optimizer() || sharding_.num_replicas() > 1;
            if (group.size() > 1 && replicated) {
                sum = exchanged(std::move(sum), [&](const Tensor& tensor) {
                    group.all_reduce(tensor, label(unit, step));
                });
            }
        }
    }

    Tensor owned(int unit) const override {
        const Range target = sharding_.optimizer_range(unit_size(unit));
        return slice(sums_[static_cast<size_t>(unit)],
                     sharding_.owned(unit_size(unit), sharding_.rank()), target.begin);
    }

    Buffer take(int unit, int64_t) override { return std::move(sums_[static_cast<size_t>(unit)]); }

    void discard() override {
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

    Buffer converted(Buffer source, DType dtype) {
        if (source.tensor().dtype() == dtype) {
            return source;
        }
        Buffer result =
            backend_.allocate(source.tensor().shape(), dtype, MemoryCategory::gradients);
        workspace_.run(Cast{.x = source, .y = result});
        return result;
    }

    /// Runs a collective on `buffer` in the exchange type and returns it in the accumulation type,
    /// ready for compute.
    template <typename Collective>
    Buffer exchanged(Buffer buffer, const Collective& collective) {
        buffer = converted(std::move(buffer), exchange_dtype_);
        backend_.wait(Stream::communication, backend_.record(Stream::compute));
        collective(buffer.tensor());
        backend_.wait(Stream::compute, backend_.record(Stream::communication));
        return converted(std::move(buffer), accumulation_);
    }

    /// A whole row becomes the sum of this rank's shard over the shard group.
    Buffer scatter(int unit, Buffer row, int64_t step) {
        const Range mine = sharding_.shard(unit_size(unit), sharding_.rank());
        if (sharding_.shard_size() > 1) {
            row = exchanged(std::move(row), [&](const Tensor& tensor) {
                std::vector<Tensor> parts;
                for (int shard = 0; shard < sharding_.shard_size(); ++shard) {
                    parts.push_back(slice(tensor, sharding_.shard(unit_size(unit), shard)));
                }
                groups_.shard_group().reduce_scatter(parts, label(unit, step));
            });
        }
        Buffer shard = backend_.allocate({mine.size()}, accumulation_, MemoryCategory::gradients);
        if (!mine.empty()) {
            backend_.copy(shard, slice(row, mine), Stream::compute);
        }
        return shard;
    }

    void accumulate(int unit, Buffer contribution) {
        Buffer& sum = sums_[static_cast<size_t>(unit)];
        if (!sum) {
            sum = std::move(contribution);
            return;
        }
        if (sum.tensor().size() > 0) {
            const std::array<Tensor, 1> contributions = {contribution};
            workspace_.run(Accumulate{.sum = sum, .contributions = contributions, .assign = false});
        }
    }

    const ParamLayout& layout_;
    Backend& backend_;
    ProcessGroups& groups_;
    const Sharding& sharding_;
    DType accumulation_;
    DType exchange_dtype_;
    bool every_round_;  ///< stages 2 and 3 never keep a whole sum: they reduce each micro-batch
    Workspace workspace_;
    std::vector<Buffer> sums_;
};

}  // namespace

std::unique_ptr<GradientReducer> make_native_reducer(const ParallelConfig& config,
                                                     const ParamLayout& layout, Backend& backend,
                                                     ProcessGroups& groups, DType accumulation) {
    return std::make_unique<NativeReducer>(config, layout, backend, groups, accumulation);
}

}  // namespace lathe
