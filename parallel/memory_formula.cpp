#include "parallel/memory_formula.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>

#include "model/param_layout.h"
#include "parallel/gradient_reducer.h"
#include "parallel/memory_ledger.h"
#include "parallel/sharding.h"

namespace lathe {
namespace {

constexpr const char* kSums = "sums";
constexpr const char* kRows = "gradient rows of the micro-batch";
constexpr const char* kRounded = "gradient rows rounded for the exchange";
constexpr const char* kExchanged = "gradient rows being exchanged";
constexpr const char* kShards = "shard of the micro-batch's gradient";
constexpr const char* kWhole = "whole sum of a unit for its update";
constexpr const char* kGathered = "gathered units";
constexpr const char* kBuckets = "bucket staging";

/// What every walk knows.
struct Setting {
    const ParamLayout& layout;
    const ParallelConfig& config;
    const Sharding& sharding;
    bool tied;
    int64_t compute_bytes;       ///< of an element
    int64_t accumulation_bytes;  ///< likewise
    int64_t exchange_bytes;      ///< likewise: as gradients are exchanged

    int64_t size(int unit) const { return layout.units()[static_cast<size_t>(unit)].size; }
    int64_t owned(int unit) const { return sharding.owned(size(unit), sharding.rank()).size(); }
    int64_t shard(int unit) const { return sharding.shard(size(unit), sharding.rank()).size(); }
    int64_t row_bytes(int unit) const { return size(unit) * accumulation_bytes; }
    int64_t rounded_bytes(int unit) const { return size(unit) * exchange_bytes; }
    bool rounds() const { return exchange_bytes != accumulation_bytes; }
};

/// What a GradientReducer holds, step by step.
class ReducerWalk {
  public:
    ReducerWalk(const Setting& setting, Ledger& gradients, Ledger& communication)
        : setting_(setting),
          gradients_(gradients),
          communication_(communication),
          sums_(static_cast<size_t>(setting.layout.num_units()), kAbsent) {}
    virtual ~ReducerWalk() = default;

    /// A unit's gradient (a row is there when this rank is active) is ready.
    virtual void add(int unit, int num_active) = 0;
    virtual void finish() = 0;
    virtual void update(int unit) = 0;

  protected:
    static constexpr int64_t kAbsent = -1;

    int64_t& sum(int unit) { return sums_[static_cast<size_t>(unit)]; }
    void set_sum(int unit, int64_t bytes) {
        sum(unit) = bytes;
        gradients_.take(kSums, bytes);
    }
    void give_sum(int unit) {
        gradients_.give(kSums, sum(unit));
        sum(unit) = kAbsent;
    }
    bool active(int num_active) const { return setting_.sharding.rank() < num_active; }

    const Setting& setting_;
    Ledger& gradients_;
    Ledger& communication_;

  private:
    std::vector<int64_t> sums_;  ///< bytes by unit
};

class OrderedWalk final : public ReducerWalk {
  public:
    using ReducerWalk::ReducerWalk;

    void add(int unit, int num_active) override {
        const bool has_row = active(num_active);
        if (has_row && setting_.rounds()) {
            gradients_.take(kRounded, setting_.rounded_bytes(unit));
            gradients_.give(kRows, setting_.row_bytes(unit));
            gradients_.give(kRounded, setting_.rounded_bytes(unit));
            gradients_.take(kExchanged, setting_.rounded_bytes(unit));
        } else if (has_row) {
            gradients_.give(kRows, setting_.row_bytes(unit));
            if (setting_.sharding.world_size() == 1 && sum(unit) == kAbsent) {
                set_sum(unit, setting_.row_bytes(unit));  // the row becomes the sum
                return;
            }
            gradients_.take(kExchanged, setting_.row_bytes(unit));
        }
        if (sum(unit) == kAbsent) {
            set_sum(unit, setting_.owned(unit) * setting_.accumulation_bytes);
        }
        const Flight flight = {.row_bytes = has_row ? setting_.rounded_bytes(unit) : 0,
                               .staging_bytes = (num_active - (has_row ? 1 : 0)) *
                                                setting_.owned(unit) * setting_.exchange_bytes};
        communication_.take(kBuckets, flight.staging_bytes);
        in_flight_.push_back(flight);
        drain(kUnitsInFlight);
    }

    void finish() override { drain(0); }

    void update(int unit) override {
        const Sharding& sharding = setting_.sharding;
        const int holders =
            sharding.shards_optimizer() ? sharding.num_replicas() : sharding.world_size();
        const int64_t whole =
            sharding.optimizer_range(setting_.size(unit)).size() * setting_.accumulation_bytes;
        if (holders > 1) {
            gradients_.take(kWhole, whole);
        }
        give_sum(unit);
        if (holders > 1) {
            gradients_.give(kWhole, whole);
        }
    }

  private:
    struct Flight {
        int64_t row_bytes = 0;
        int64_t staging_bytes = 0;
    };

    void drain(size_t count) {
        while (in_flight_.size() > count) {
            gradients_.give(kExchanged, in_flight_.front().row_bytes);
            communication_.give(kBuckets, in_flight_.front().staging_bytes);
            in_flight_.pop_front();
        }
    }

    std::deque<Flight> in_flight_;
};

class NativeWalk final : public ReducerWalk {
  public:
    using ReducerWalk::ReducerWalk;

    void add(int unit, int num_active) override {
        const bool every_round = setting_.sharding.shards_gradients();
        if (!active(num_active) && !every_round) {
            return;
        }
        if (!active(num_active)) {
            gradients_.take(kRows, setting_.row_bytes(unit));  // of zeros
        }
        const int64_t contribution = every_round ? shard_bytes(unit) : setting_.row_bytes(unit);
        if (every_round) {
            scatter(unit, kRows);
            gradients_.give(kShards, contribution);
        } else {
            gradients_.give(kRows, contribution);
        }
        if (sum(unit) == kAbsent) {
            set_sum(unit, contribution);
        }
    }

    void finish() override {
        const Sharding& sharding = setting_.sharding;
        for (int unit = 0; unit < setting_.layout.num_units(); ++unit) {
            if (sum(unit) == kAbsent) {  // a rank that had no micro-batch in the whole step
                set_sum(unit, setting_.row_bytes(unit));
            }
            if (!sharding.shards_gradients() && sharding.shards_optimizer()) {
                scatter(unit, kSums);
                gradients_.give(kShards, shard_bytes(unit));
                set_sum(unit, shard_bytes(unit));
            }
            const bool reduces = sharding.shards_optimizer() ? sharding.num_replicas() > 1
                                                             : sharding.world_size() > 1;
            if (reduces) {
                round_and_back(kSums, sum(unit));
            }
        }
    }

    void update(int unit) override { give_sum(unit); }

  private:
    int64_t shard_bytes(int unit) const {
        return setting_.shard(unit) * setting_.accumulation_bytes;
    }

    /// A collective in the exchange type on memory that serves `purpose`.
    void round_and_back(const char* purpose, int64_t bytes) {
        if (setting_.rounds()) {
            const int64_t rounded = bytes / setting_.accumulation_bytes * setting_.exchange_bytes;
            gradients_.take(kRounded, rounded);
            gradients_.give(purpose, bytes);
            gradients_.take(purpose, bytes);
            gradients_.give(kRounded, rounded);
        }
    }

    /// A whole row that serves `purpose` becomes a shard.
    void scatter(int unit, const char* purpose) {
        if (setting_.sharding.shard_size() > 1) {
            round_and_back(purpose, setting_.row_bytes(unit));
        }
        gradients_.take(kShards, shard_bytes(unit));
        gradients_.give(purpose, setting_.row_bytes(unit));
    }
};

/// The rows of parameters that stage 3 gathers.
class GatherWalk {
  public:
    GatherWalk(const Setting& setting, Ledger& communication)
        : setting_(setting),
          communication_(communication),
          full_(static_cast<size_t>(setting.layout.num_units())) {}

    /// Acquires a unit, and gathers ahead the one that is acquired after it.
    void acquire(int unit, int next) {
        gather(unit);
        if (setting_.config.prefetch && next != unit) {
            gather(next);
        }
    }
    void release(int unit) {
        if (setting_.sharding.shards_parameters()) {
            full_[static_cast<size_t>(unit)] = false;
            communication_.give(kGathered, setting_.size(unit) * setting_.compute_bytes);
        }
    }

  private:
    void gather(int unit) {
        if (setting_.sharding.shards_parameters() && !full_[static_cast<size_t>(unit)]) {
            full_[static_cast<size_t>(unit)] = true;
            communication_.take(kGathered, setting_.size(unit) * setting_.compute_bytes);
        }
    }

    const Setting& setting_;
    Ledger& communication_;
    std::vector<bool> full_;
};

/// One step as Trainer, Transformer and ParamStore run it.
class StepWalk {
  public:
    StepWalk(const Setting& setting, Ledger& gradients, Ledger& communication)
        : setting_(setting), gradients_(gradients), gather_(setting, communication) {
        if (setting.config.reduction == Reduction::native) {
            reducer_ = std::make_unique<NativeWalk>(setting, gradients, communication);
        } else {
            reducer_ = std::make_unique<OrderedWalk>(setting, gradients, communication);
        }
    }

    void run(int64_t micro_batches) {
        const int64_t ranks = setting_.sharding.world_size();
        for (int64_t round = 0; round < micro_batches; round += ranks) {
            run_round(static_cast<int>(std::min(ranks, micro_batches - round)));
        }
        reducer_->finish();
        for (int unit = 0; unit < setting_.layout.num_units(); ++unit) {
            reducer_->update(unit);
        }
    }

  private:
    void run_round(int num_active) {
        const bool active = setting_.sharding.rank() < num_active;
        const int embedding = setting_.layout.embedding_unit();
        const int last = setting_.layout.final_unit();
        const int last_block = last - 1;
        for (int unit = embedding; unit < last; ++unit) {
            gather_.acquire(unit, unit + 1);
            gather_.release(unit);
        }
        take_row(active && setting_.tied, embedding);
        take_row(active, last);
        gather_.acquire(last, setting_.tied ? embedding : last_block);
        if (setting_.tied) {
            gather_.acquire(embedding, last_block);
            gather_.release(embedding);
        }
        gather_.release(last);
        reducer_->add(last, num_active);
        for (int unit = last_block; unit > embedding; --unit) {
            gather_.acquire(unit, unit - 1);
            take_row(active, unit);
            gather_.release(unit);
            reducer_->add(unit, num_active);
        }
        gather_.acquire(embedding, embedding);
        take_row(active && !setting_.tied, embedding);
        gather_.release(embedding);
        reducer_->add(embedding, num_active);
    }

    void take_row(bool needed, int unit) {
        if (needed) {
            gradients_.take(kRows, setting_.row_bytes(unit));
        }
    }

    const Setting& setting_;
    Ledger& gradients_;
    GatherWalk gather_;
    std::unique_ptr<ReducerWalk> reducer_;
};

/// Memory that is there from the start to the end.
MemoryShare constant(double ideal_bytes, int64_t bytes) {
    return {.ideal_bytes = ideal_bytes,
            .padding_bytes = static_cast<double>(bytes) - ideal_bytes,
            .staging = {},
            .peak_bytes = bytes};
}

}  // namespace

RankMemory rank_memory(const ModelConfig& model, const ParallelConfig& parallel, DType compute,
                       int64_t micro_batches, RankOfJob place) {
    const ParamLayout layout(model);
    const Sharding sharding(parallel, place.world_size, place.rank);
    const DType accumulation = accumulation_dtype(compute);
    const DType exchange =
        parallel.gradient_dtype == DType::f32 ? accumulation : parallel.gradient_dtype;
    const Setting setting = {.layout = layout,
                             .config = parallel,
                             .sharding = sharding,
                             .tied = model.tied_embeddings,
                             .compute_bytes = size_of(compute),
                             .accumulation_bytes = size_of(accumulation),
                             .exchange_bytes = size_of(exchange)};
    int64_t parameters = 0;
    int64_t optimizer = 0;
    int64_t sums = 0;
    const bool native = parallel.reduction == Reduction::native;
    for (int unit = 0; unit < layout.num_units(); ++unit) {
        const int64_t size = setting.size(unit);
        parameters += sharding.parameter_range(size).size();
        optimizer += sharding.optimizer_range(size).size();
        sums += !native ? setting.owned(unit)
                        : (sharding.shards_gradients() ? setting.shard(unit) : size);
    }
    Ledger gradients;
    Ledger communication;
    StepWalk(setting, gradients, communication).run(micro_batches);

    const auto ideal = [&](int64_t bytes, bool shared, int ranks) {
        return static_cast<double>(bytes) * static_cast<double>(layout.num_parameters()) /
               (shared ? ranks : 1);
    };
    const int shards = sharding.shard_size();
    const int64_t state_bytes = (compute != accumulation ? 3 : 2) * setting.accumulation_bytes;
    const MemoryShare state =
        constant(ideal(state_bytes, sharding.shards_optimizer(), shards), optimizer * state_bytes);
    const bool offloads = parallel.offload == Offload::optimizer;
    return {
        .parameters = constant(ideal(setting.compute_bytes, sharding.shards_parameters(), shards),
                               parameters * setting.compute_bytes),
        .gradients = gradients.share(
            native ? ideal(setting.accumulation_bytes, sharding.shards_gradients(), shards)
                   : ideal(setting.accumulation_bytes, true, sharding.world_size()),
            sums * setting.accumulation_bytes, kSums),
        .optimizer = offloads ? MemoryShare() : state,
        .communication = communication.share(0.0, 0, ""),
        .offloaded = offloads ? state : MemoryShare()};
}

}  // namespace lathe
