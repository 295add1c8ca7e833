#include "train/metrics.h"

#include <cmath>
#include <deque>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "train/metrics_file.h"
#include "train/run_fields.h"
#include "train/tensorboard.h"

namespace lathe {
namespace {

std::string json_number(double value) {
    if (std::isnan(value)) {
        return "\"NaN\"";
    }
    if (std::isinf(value)) {
        return value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
    }
    return real_text(value);
}

/// The step of a line of metrics.jsonl; nothing when it is no such line.
std::optional<int64_t> step_of_line(std::string_view line) {
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) {
        return std::nullopt;
    }
    const auto step = json.find("step");
    return step != json.end() && step->is_number_integer() ? std::optional(step->get<int64_t>())
                                                           : std::nullopt;
}

struct KeptLines {
    int64_t bytes = 0;
    int64_t last_step = 0;
};

/// Where metrics.jsonl is cut: after the last whole line of a step up to `resume_step`. Looked for
/// from the end, where it is near.
KeptLines lines_to_keep(const std::string& path, int64_t resume_step) {
    if (resume_step == 0 || !std::filesystem::is_regular_file(path)) {
        return {};
    }
    std::ifstream stream(path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(stream)), {});
    size_t end = text.rfind('\n') + 1;  // 0 when there is no newline: npos + 1
    while (end > 0) {
        const size_t begin = end == 1 ? 0 : text.rfind('\n', end - 2) + 1;
        const auto step = step_of_line(std::string_view(text).substr(begin, end - 1 - begin));
        if (step && *step <= resume_step) {
            return {static_cast<int64_t>(end), *step};
        }
        end = begin;
    }
    return {};
}

}  // namespace

std::string metrics_line(const StepMetrics& metrics) {
    std::string line = fmt::format(
        "{{\"step\": {}, \"loss\": {}, \"learning_rate\": {}, \"gradient_norm\": {}, "
        "\"tokens\": {}, \"tokens_per_second\": {}, \"utilization\": {}, "
        "\"exposed_communication_s\": {}, \"sent_bytes\": {}",
        metrics.step, json_number(metrics.loss), json_number(metrics.learning_rate),
        json_number(metrics.gradient_norm), metrics.tokens, json_number(metrics.tokens_per_second),
        json_number(metrics.utilization), json_number(metrics.exposed_communication_s),
        metrics.sent_bytes);
    if (metrics.skipped) {
        line += ", \"skipped\": true";
    }
    if (metrics.validation_loss) {
        line += fmt::format(", \"validation_loss\": {}", json_number(*metrics.validation_loss));
    }
    if (metrics.bits_per_byte) {
        line += fmt::format(", \"bits_per_byte\": {}", json_number(*metrics.bits_per_byte));
    }
    return line + "}\n";
}

struct MetricsLog::Impl {
    Impl(const std::string& run_folder, int64_t resume_step)
        : path(run_folder + "/metrics.jsonl"),
          kept(lines_to_keep(path, resume_step)),
          lines(path, kept.bytes),
          events(run_folder + "/" + kEventFileName, resume_step) {
        if (kept.last_step < resume_step) {
            warning = fmt::format(
                "{}: ends at step {} although the run goes on from step {}; the steps between "
                "have no metrics",
                path, kept.last_step, resume_step);
        }
    }

    std::string path;
    KeptLines kept;
    AppendFile lines;
    EventFile events;
    std::string warning;
};

MetricsLog::MetricsLog(const std::string& run_folder, int64_t resume_step)
    : impl_(std::make_unique<Impl>(run_folder, resume_step)) {}
MetricsLog::~MetricsLog() = default;

void MetricsLog::write(const StepMetrics& metrics) {
    impl_->lines.append(metrics_line(metrics));
    std::vector<Scalar> scalars = {{"loss", metrics.loss},
                                   {"learning_rate", metrics.learning_rate},
                                   {"gradient_norm", metrics.gradient_norm},
                                   {"tokens_per_second", metrics.tokens_per_second},
                                   {"utilization", metrics.utilization},
                                   {"exposed_communication_s", metrics.exposed_communication_s},
                                   {"sent_bytes", static_cast<double>(metrics.sent_bytes)}};
    if (metrics.validation_loss) {
        scalars.push_back({"validation_loss", *metrics.validation_loss});
    }
    if (metrics.bits_per_byte) {
        scalars.push_back({"bits_per_byte", *metrics.bits_per_byte});
    }
    impl_->events.write(metrics.step, scalars);
}

void MetricsLog::write_memory(int64_t step, const MemorySpread& spread) {
    std::deque<std::string> tags;  // whose texts stay where they are
    std::vector<Scalar> scalars;
    const auto add = [&](std::string_view name, const MemoryBounds& bounds) {
        tags.push_back(fmt::format("memory/{}/min", name));
        scalars.push_back({tags.back(), static_cast<double>(bounds.min_bytes)});
        tags.push_back(fmt::format("memory/{}/max", name));
        scalars.push_back({tags.back(), static_cast<double>(bounds.max_bytes)});
    };
    for (size_t i = 0; i < spread.categories.size(); ++i) {
        add(name_of(static_cast<MemoryCategory>(i)), spread.categories[i]);
    }
    add("total", spread.total);
    impl_->events.write(step, scalars);
}

void MetricsLog::sync() {
    impl_->lines.sync();
    impl_->events.sync();
}

const std::string& MetricsLog::resume_warning() const { return impl_->warning; }

}  // namespace lathe
