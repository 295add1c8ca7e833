// Learning-rate schedules.
#pragma once

#include <cstdint>

#include "train/run_config.h"

namespace lathe {

/// Learning rate of optimizer step `step`, counted from 1 to `steps`. Warm-up rises linearly from
/// peak / warmup_steps to the peak at step warmup_steps; then, with x = (step - warmup) / (steps -
/// warmup) and f = final_learning_rate: constant: peak; linear: peak (1 - x (1 - f)); cosine: peak
/// (f + (1 - f)(1 + cos(pi x)) / 2) (arXiv 1608.03983); warmup_stable_decay: peak until the last
/// decay_fraction of the steps, then linear to f peak (arXiv 2404.06395).
double learning_rate(const OptimizerConfig& config, int64_t step, int64_t steps);

}  // namespace lathe
