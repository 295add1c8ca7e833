// ParamStore: where parameters, gradients and optimizer state live, on however many ranks. ZeRO
// stages are one mechanism: the stage only decides which range of a unit's rows a rank keeps, and
// how long a full row of parameters lives.
//
// Every rank calls the same functions in the same order; those marked "all ranks" communicate.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "model/param_access.h"
#include "model/param_layout.h"
#include "parallel/gathered_units.h"
#include "parallel/gradient_reducer.h"
#include "parallel/optimizer_rows.h"
#include "parallel/sharding.h"

namespace lathe {

/// What one optimizer step needs besides the gradients.
struct OptimizerStep {
    double learning_rate = 0.0;
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0.0;
    double gradient_scale = 1.0;       ///< clipping
    int64_t update = 1;                ///< updates so far, this one included (bias correction)
    bool stochastic_rounding = false;  ///< of bf16 parameters
    uint64_t seed = 0;
};

/// The rows that a checkpoint saves of each unit. `parameters` are what the model computes with;
/// the master weights are the same row when the compute type is the accumulation type.
enum class ParamState { parameters, master, first_moment, second_moment };

class ParamStore final : public ParamAccess {
  public:
    ParamStore(const ParamLayout& layout, Backend& backend, ProcessGroups& groups, DType compute,
               const ParallelConfig& config);

    Tensor acquire(int unit) override { return gathered_.acquire(unit); }
    void release(int unit) override { gathered_.release(unit); }
    Tensor gradients(int unit) override;
    void gradients_ready(int unit) override;

    /// Announces a round: one micro-batch on each of ranks 0 .. num_active-1, in optimizer step
    /// `step` (from 1).
    void begin_round(int num_active, int64_t step);

    /// Ends the gradient sums of a step and returns the square of their global L2 norm: one f64 sum
    /// a chunk, added in global chunk order. Not finite when any gradient is not. All ranks.
    double squared_gradient_norm();
    /// The first tensor, in the order in which backward makes gradients, whose summed gradient
    /// holds a NaN or an infinity. All ranks.
    std::optional<std::string> first_bad_gradient();
    /// AdamW on this rank's optimizer state, then the parameters brought up to date everywhere; the
    /// gradients are used up. All ranks.
    void update(const OptimizerStep& step);
    /// Forgets the gradients without using them.
    void discard_gradients() { reducer_->discard(); }

    /// Whether master weights are a row of their own.
    bool has_master() const { return compute_ != accumulation_; }
    /// A unit's whole row on rank `root`, empty on the others. All ranks.
    std::vector<float> gather(int unit, ParamState state, int root);
    /// Takes what this rank holds of elements [first, first + values.size()) of a unit's row.
    void write(int unit, ParamState state, int64_t first, std::span<const float> values);
    /// Zeroes what this rank holds of a unit's moments.
    void clear_moments(int unit);
    /// Initial parameters and zero moments: a pure function of the seed.
    void initialize(const ModelConfig& config, uint64_t seed);

  private:
    /// What this rank keeps of one unit.
    struct Unit {
        Buffer parameters;  ///< compute type, the parameter range
        Buffer gradient;    ///< whole row of this micro-batch, while backward fills it
    };
    /// A state's row on this rank and the elements of the unit that it holds.
    struct Held {
        Tensor row;
        Range range;
        bool offloaded = false;  ///< operations reach it in windows only
    };

    int64_t unit_size(int unit) const { return layout_.units()[static_cast<size_t>(unit)].size; }
    Held held(int unit, ParamState state) const;
    Range held_range(int unit, ParamState state, int rank) const;
    OptimizerRows make_optimizer_rows(const ParallelConfig& config) const;
    OffloadWindow open(int unit, ParamState state, Range range);
    void close(OffloadWindow window);
    void zero_padding(int unit, const Tensor& gradient);
    void prefetch_optimizer_state();
    template <typename Function>
    void each_updated_piece(int unit, Function&& function) const;
    void update_range(int unit, const Tensor& gradient, Range range, const OptimizerStep& step);
    std::vector<float> read(const Tensor& row);

    const ParamLayout& layout_;
    Backend& backend_;
    ProcessGroups& groups_;
    const Sharding& sharding_;
    DType compute_;
    DType accumulation_;
    Workspace workspace_;
    std::vector<Unit> units_;
    OptimizerRows optimizer_;  ///< over the optimizer range, in the accumulation type: the moments,
                               ///< and the master weights where the parameters are of another type
    GatheredUnits gathered_;
    std::unique_ptr<GradientReducer> reducer_;
    int num_active_ = 1;
    int64_t step_ = 1;
};

}  // namespace lathe
