#include "plan/fit_runs.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/param_layout.h"
#include "plan/report.h"
#include "train/run_config.h"

namespace lathe {
namespace {

constexpr double kLeftOut = 0.25;  ///< of a run's tokens

/// The root mean square of the relative errors.
double misfit(std::span<const RunPoints> runs, const LossLaw& law) {
    double sum = 0.0;
    double count = 0.0;
    for (const RunPoints& run : runs) {
        for (const LossPoint& point : run.points) {
            const double error = law.loss(point.parameters, point.tokens) / point.loss - 1.0;
            sum += error * error;
            count += 1.0;
        }
    }
    return std::sqrt(sum / std::max(count, 1.0));
}

}  // namespace

RunPoints read_run(const std::filesystem::path& folder) {
    const std::filesystem::path metrics = folder / "metrics.jsonl";
    std::ifstream lines(metrics);
    LATHE_CHECK_USAGE(lines.is_open(), "{}: cannot be read; give folders written by lathe train",
                      metrics.string());
    const RunConfig config = load_run_config((folder / "config.toml").string(), {});
    LATHE_CHECK_USAGE(config.model.vocabulary_size > 0, "{}: has no vocabulary-size",
                      (folder / "config.toml").string());
    const auto parameters = static_cast<double>(ParamLayout(config.model).num_parameters());
    RunPoints run = {.folder = folder.string(), .points = {}};
    std::string line;
    for (int number = 1; std::getline(lines, line); ++number) {
        const nlohmann::json step = nlohmann::json::parse(line, nullptr, false);
        LATHE_CHECK_USAGE(step.is_object() && step.contains("tokens") && step["tokens"].is_number(),
                          "{}:{}: is no line of a run's metrics", metrics.string(), number);
        const auto loss = step.find("validation_loss");
        if (loss != step.end() && loss->is_number()) {
            run.points.push_back({.parameters = parameters,
                                  .tokens = step["tokens"].get<double>(),
                                  .loss = loss->get<double>()});
        }
    }
    LATHE_CHECK_USAGE(!run.points.empty(), "{}: holds no validation loss", metrics.string());
    const double first = kLeftOut * run.points.back().tokens;
    std::erase_if(run.points, [&](const LossPoint& point) { return point.tokens < first; });
    return run;
}

std::string fit_text(std::span<const RunPoints> runs, const LossLaw& law) {
    std::string text = fmt::format(
        "loss = E + A / N^alpha + B / D^beta over {} runs\n  E     {:.4f}\n  A     {:.4g}\n  B     "
        "{:.4g}\n  alpha {:.4f}\n  beta  {:.4f}\nroot mean square of the relative errors: "
        "{:.2f}%\n\n{:>12} {:>10} {:>10} {:>10}   run\n",
        runs.size(), law.e, law.a, law.b, law.alpha, law.beta, 100.0 * misfit(runs, law),
        "parameters", "tokens", "measured", "law");
    for (const RunPoints& run : runs) {
        const LossPoint& end = run.points.back();
        text += fmt::format("{:>12} {:>10} {:>10.4f} {:>10.4f}   {}\n", count_text(end.parameters),
                            count_text(end.tokens), end.loss, law.loss(end.parameters, end.tokens),
                            run.folder);
    }
    text += "\ncompute-optimal by this law\n";
    for (const double factor : {1.0, 10.0, 100.0}) {
        const LossPoint& end = runs.back().points.back();
        const double flops = factor * 6.0 * end.parameters * end.tokens;
        const double parameters = law.best_parameters(flops);
        text += fmt::format("  {:.3g} FLOPs: {} parameters, {} tokens, loss {:.4f}\n", flops,
                            count_text(parameters), count_text(flops / (6.0 * parameters)),
                            law.loss(parameters, flops / (6.0 * parameters)));
    }
    return text;
}

std::string fit_json(std::span<const RunPoints> runs, const LossLaw& law) {
    nlohmann::ordered_json json = {{"E", law.e},       {"A", law.a},
                                   {"B", law.b},       {"alpha", law.alpha},
                                   {"beta", law.beta}, {"relative_error", misfit(runs, law)}};
    for (const RunPoints& run : runs) {
        nlohmann::ordered_json points = nlohmann::ordered_json::array();
        for (const LossPoint& point : run.points) {
            points.push_back({{"tokens", point.tokens},
                              {"loss", point.loss},
                              {"law", law.loss(point.parameters, point.tokens)}});
        }
        json["runs"].push_back({{"folder", run.folder},
                                {"parameters", run.points.back().parameters},
                                {"points", points}});
    }
    return json.dump(2) + "\n";
}

}  // namespace lathe
