// The scaling law of one's own runs, read from their run folders.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "plan/scaling_law.h"

namespace lathe {

struct RunPoints {
    std::string folder;
    std::vector<LossPoint> points;  ///< validation losses; the last is the run's end
};

/// The validation losses of one run folder (config.toml, metrics.jsonl), with the model's
/// parameters and the tokens seen. Those of the run's first quarter are left out: the law is of
/// trained models. Throws UsageError naming the file where there are none.
RunPoints read_run(const std::filesystem::path& folder);

std::string fit_text(std::span<const RunPoints> runs, const LossLaw& law);
std::string fit_json(std::span<const RunPoints> runs, const LossLaw& law);

}  // namespace lathe
