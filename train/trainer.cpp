#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "parallel/gather_in_turn.h"
#include "train/offload.h"
#include "train/schedule.h"

namespace lathe {
namespace {

bool all_finite(Backend& backend, const Tensor& value) {
    const Buffer wide = backend.allocate({value.size()}, DType::f32, MemoryCategory::workspace);
    Workspace(backend).run(Cast{.x = value, .y = wide});
    std::vector<float> host(static_cast<size_t>(value.size()));
    backend.copy_to_host(host.data(), wide);
    return std::all_of(host.begin(), host.end(), [](float x) { return std::isfinite(x); });
}

}  // namespace

Trainer::Trainer(const RunConfig& config, Backend& backend, DType compute, const Samples& samples,
                 Communicator& world)
    : config_(config),
      backend_(backend),
      samples_(samples),
      layout_(config.model),
      groups_(world, config.parallel),
      params_(layout_, backend, groups_, compute, with_offload_folder(config)),
      model_(config.model, layout_, backend, compute, config.train.recompute),
      batch_(backend, config.train.micro_batch, config.train.sequence_length) {}

void Trainer::initialize() {
    params_.initialize(config_.model, static_cast<uint64_t>(config_.train.seed));
    state_ = TrainState();
}

int64_t Trainer::tokens_per_step() const {
    return config_.train.global_batch * config_.train.sequence_length;
}

int64_t Trainer::first_sample(int64_t micro_batch) const {
    return state_.step * config_.train.global_batch + micro_batch * config_.train.micro_batch;
}

/// Each micro-batch's loss sum, in global order, on every rank.
std::vector<double> Trainer::run_micro_batches() {
    // Averaging happens once, here; everything after only adds.
    const auto loss_scale = static_cast<float>(1.0 / static_cast<double>(tokens_per_step()));
    const int64_t count = config_.train.global_batch / config_.train.micro_batch;
    const int ranks = world().size();
    std::vector<double> mine;
    for (int64_t round = 0; round < count; round += ranks) {
        const int64_t active = std::min<int64_t>(ranks, count - round);
        params_.begin_round(static_cast<int>(active), state_.step + 1);
        if (world().rank() >= active) {
            model_.follow_forward_backward(params_);
            continue;
        }
        backend_.label("input", "");
        batch_.load(samples_, first_sample(round + world().rank()), config_.train.micro_batch);
        model_.forward_backward(params_, batch_.tokens(), batch_.targets(), loss_scale,
                                batch_.losses());
        mine.push_back(batch_.sum_losses());
    }
    return gather_in_turn(world(), mine, count, {.tensor = "losses", .step = state_.step + 1});
}

StepResult Trainer::step() {
    const std::vector<double> losses = run_micro_batches();
    StepResult result;
    result.loss =
        std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(tokens_per_step());
    result.gradient_norm = std::sqrt(params_.squared_gradient_norm());
    result.learning_rate = learning_rate(config_.optimizer, state_.step + 1, config_.train.steps);
    if (std::isfinite(result.loss) && std::isfinite(result.gradient_norm)) {
        state_.updates += 1;
        state_.bad_steps = 0;
        params_.update(optimizer_step(result.learning_rate, result.gradient_norm));
    } else {
        const auto bad = std::find_if_not(losses.begin(), losses.end(),
                                          [](double x) { return std::isfinite(x); });
        result.bad_tensor = bad != losses.end() ? find_bad_activation(bad - losses.begin())
                                                : "the gradient of " +
                                                      params_.first_bad_gradient().value_or(
                                                          "no single tensor (the norm overflowed)");
        state_.bad_steps += 1;
        params_.discard_gradients();
    }
    state_.step += 1;
    return result;
}

OptimizerStep Trainer::optimizer_step(double learning_rate, double gradient_norm) const {
    const OptimizerConfig& optimizer = config_.optimizer;
    const bool clips = optimizer.gradient_clip > 0.0 && gradient_norm > optimizer.gradient_clip;
    return {.learning_rate = learning_rate,
            .beta1 = optimizer.beta1,
            .beta2 = optimizer.beta2,
            .epsilon = optimizer.epsilon,
            .weight_decay = optimizer.weight_decay,
            .gradient_scale = clips ? optimizer.gradient_clip / gradient_norm : 1.0,
            .update = state_.updates,
            .stochastic_rounding = optimizer.stochastic_rounding,
            .seed = static_cast<uint64_t>(config_.train.seed)};
}

/// Every rank repeats the forward pass of that micro-batch and finds the same place.
std::string Trainer::find_bad_activation(int64_t micro_batch) {
    std::string found = "the loss";
    bool looking = true;
    model_.set_probe([&](std::string_view name, const Tensor& value) {
        if (looking && !all_finite(backend_, value)) {
            found = name;
            looking = false;
        }
    });
    batch_.load(samples_, first_sample(micro_batch), config_.train.micro_batch);
    model_.evaluate(params_, batch_.tokens(), batch_.targets(), batch_.losses());
    model_.set_probe({});
    return found;
}

}  // namespace lathe
