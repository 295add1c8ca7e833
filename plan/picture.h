// Pictures as SVG: memory over one step, the streams' timeline, and measured losses with a law.
#pragma once

#include <span>
#include <string>

#include "plan/report.h"
#include "plan/scaling_law.h"

namespace lathe {

/// Memory by category above the two streams' work, over the same time: the simulated step.
std::string step_picture(const PlanReport& report);

/// Loss over tokens, one colour for each size: what was measured, and the law.
std::string fit_picture(std::span<const LossPoint> points, const LossLaw& law);

}  // namespace lathe
