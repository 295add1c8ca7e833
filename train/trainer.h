// Trainer: one optimizer step at a time. It knows no files: the run around it (train/run.h) does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/loader.h"
#include "kernels/backend.h"
#include "model/transformer.h"
#include "parallel/param_store.h"
#include "parallel/sharding.h"
#include "train/micro_batch.h"
#include "train/run_config.h"

namespace lathe {

/// Where a run stands: with the parameters and the optimizer's state, all that is needed to go on.
/// Step s (counted from 1) trains on samples [(s - 1) global_batch, s global_batch).
struct TrainState {
    int64_t step = 0;  ///< steps done
    int64_t updates =
        0;  ///< steps whose gradient reached the weights (AdamW's bias correction counts these)
    int64_t bad_steps = 0;  ///< steps skipped in a row, up to now

    bool operator==(const TrainState&) const = default;
};

struct StepResult {
    double loss = 0.0;           ///< mean nats a token of the global batch
    double gradient_norm = 0.0;  ///< L2 over all parameters, before clipping
    double learning_rate = 0.0;
    std::string bad_tensor;  ///< not empty: the step was skipped; what went bad first

    bool skipped() const { return !bad_tensor.empty(); }
};

class Trainer {
  public:
    /// `config.model` is complete and valid. `samples` are of config.train.sequence_length tokens.
    /// Global micro-batch i of a step is run by rank i mod world.size(). Every rank calls the same
    /// functions in the same order.
    Trainer(const RunConfig& config, Backend& backend, DType compute, const Samples& samples,
            Communicator& world);

    /// Parameters from the seed, moments zero.
    void initialize();

    /// Runs the next step: forward and backward of each micro-batch, gradient norm, clipping,
    /// AdamW. A NaN or an infinity in a loss or a gradient keeps the step from the weights. The
    /// result is the same on all ranks.
    StepResult step();

    const TrainState& state() const { return state_; }
    /// Goes on from a checkpoint, after its rows were written to params().
    void set_state(const TrainState& state) { state_ = state; }
    ParamStore& params() { return params_; }
    Transformer& model() { return model_; }
    const ParamLayout& layout() const { return layout_; }
    Communicator& world() { return groups_.world(); }
    int64_t tokens_per_step() const;

  private:
    std::vector<double> run_micro_batches();
    std::string find_bad_activation(int64_t micro_batch);
    OptimizerStep optimizer_step(double learning_rate, double gradient_norm) const;
    int64_t first_sample(int64_t micro_batch) const;

    const RunConfig& config_;
    Backend& backend_;
    const Samples& samples_;
    ParamLayout layout_;
    ProcessGroups groups_;
    ParamStore params_;
    Transformer model_;
    MicroBatch batch_;
    TrainState state_;
};

}  // namespace lathe
