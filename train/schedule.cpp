#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lathe {

double learning_rate(const OptimizerConfig& config, int64_t step, int64_t steps) {
    const double peak = config.learning_rate;
    const double final = config.final_learning_rate;
    if (step <= config.warmup_steps) {
        return peak * static_cast<double>(step) / static_cast<double>(config.warmup_steps);
    }
    // Steps past the last one (a run that was made longer by hand) keep the final rate.
    const auto progress = [&](double begin) {
        return std::clamp(
            (static_cast<double>(step) - begin) / (static_cast<double>(steps) - begin), 0.0, 1.0);
    };
    const auto warmup = static_cast<double>(config.warmup_steps);
    switch (config.schedule) {
        case ScheduleKind::constant:
            return peak;
        case ScheduleKind::linear:
            return peak * (1.0 - progress(warmup) * (1.0 - final));
        case ScheduleKind::cosine:
            return peak * (final + (1.0 - final) *
                                       (1.0 + std::cos(std::numbers::pi * progress(warmup))) / 2.0);
        case ScheduleKind::warmup_stable_decay: {
            const double begin =
                std::max(warmup, (1.0 - config.decay_fraction) * static_cast<double>(steps));
            return peak * (1.0 - progress(begin) * (1.0 - final));
        }
    }
    fail("unknown schedule");
}

}  // namespace lathe
