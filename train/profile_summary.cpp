#include "train/profile_summary.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>

namespace lathe {
namespace {

/// Rows below this share of the steps are told together.
constexpr double kLeastShare = 0.004;

bool is_step(const WorkRecorder::Section& section) {
    return std::strcmp(section.kind, "step") == 0;
}

/// Seconds in which at least one of the spans lasts.
double covered(std::vector<std::pair<double, double>> spans) {
    std::sort(spans.begin(), spans.end());
    double seconds = 0.0;
    double until = 0.0;
    for (const auto& [begin, end] : spans) {
        seconds += std::max(0.0, end - std::max(begin, until));
        until = std::max(until, end);
    }
    return seconds;
}

double seconds_of_phase(const ProfileSummary& summary, const std::string& phase) {
    double seconds = 0.0;
    for (const ProfileRow& row : summary.rows) {
        seconds += row.lane == summary.main && row.phase == phase ? row.seconds : 0.0;
    }
    return seconds;
}

void add_sections(const WorkRecorder& recorder, ProfileSummary& summary) {
    for (const WorkRecorder::Section& section : recorder.sections()) {
        if (is_step(section)) {
            ++summary.steps;
            summary.seconds += section.seconds();
            continue;
        }
        const auto same = std::find_if(
            summary.between.begin(), summary.between.end(),
            [&](const auto& other) { return std::strcmp(other.kind, section.kind) == 0; });
        if (same == summary.between.end()) {
            summary.between.push_back(section);
        } else {
            same->end_s += section.seconds();
        }
    }
}

/// Of each record: the seconds that threads worked on it, all together.
std::vector<double> thread_seconds_of(const WorkRecorder& recorder) {
    std::vector<double> seconds(recorder.records().size());
    for (int thread = 0; thread < recorder.threads().num_threads(); ++thread) {
        for (const ThreadSpans::Span& span : recorder.threads().of(thread)) {
            if (span.record >= 0) {
                seconds[static_cast<size_t>(span.record)] += span.seconds();
            }
        }
    }
    return seconds;
}

class TableText {
  public:
    TableText(const ProfileSummary& summary, const Ceilings& ceilings)
        : summary_(summary), ceilings_(ceilings) {}

    std::string text() {
        heading();
        rows(summary_.main, "operation", "operations below 0.4% each");
        total("all of these", summary_.working_seconds);
        total("outside of operations", summary_.seconds - summary_.working_seconds);
        phases();
        for (const Lane lane : {Lane::compute, Lane::communication, Lane::host}) {
            const bool any = std::any_of(summary_.rows.begin(), summary_.rows.end(),
                                         [&](const ProfileRow& row) { return row.lane == lane; });
            if (lane != summary_.main && any) {
                rows(lane, lane == Lane::host ? "beside, by the host" : "beside, communicating",
                     "others");
            }
        }
        for (const WorkRecorder::Section& section : summary_.between) {
            text_ +=
                fmt::format("between steps: {} {:.2f} ms\n", section.kind, section.seconds() * 1e3);
        }
        return text_;
    }

  private:
    double per_step(double amount) const {
        return amount / static_cast<double>(std::max<int64_t>(1, summary_.steps));
    }
    double share(double seconds) const { return seconds / std::max(summary_.seconds, 1e-12); }

    void heading() {
        text_ += fmt::format(
            "{} steps of {:.2f} ms and {:.2f} GFLOP; at best {:.1f} GFLOP/s (matrix products), "
            "{:.1f} GB/s (memory)\n",
            summary_.steps, per_step(summary_.seconds) * 1e3, per_step(summary_.flops) / 1e9,
            ceilings_.flops_per_second / 1e9, ceilings_.bytes_per_second / 1e9);
    }

    void rows(Lane lane, const char* title, const char* others) {
        text_ +=
            fmt::format("{:>6} {:>9} {:>6}  {:<22} {:<38} {:<13} {:>15} {:>8} {:>5}\n", "share",
                        "ms a step", "calls", title, "shape", "phase", "rate", "of best", "busy");
        ProfileRow rest = {.name = others};
        for (const ProfileRow& row : summary_.rows) {
            if (row.lane != lane) {
                continue;
            }
            if (share(row.seconds) < kLeastShare) {
                rest.calls += row.calls;
                rest.seconds += row.seconds;
                continue;
            }
            line(row, rate(row), of_best(row), busy(row));
        }
        if (rest.calls > 0) {
            line(rest, "", "", "");
        }
    }

    void line(const ProfileRow& row, std::string_view rate, std::string_view of_best,
              std::string_view busy) {
        std::string text =
            fmt::format("{:>5.1f}% {:>9.3f} {:>6g}  {:<22} {:<38} {:<13} {:>15} {:>8} {:>5}",
                        100 * share(row.seconds), per_step(row.seconds) * 1e3,
                        per_step(static_cast<double>(row.calls)), row.name, row.detail, row.phase,
                        rate, of_best, busy);
        text.erase(text.find_last_not_of(' ') + 1);
        text_ += text + "\n";
    }

    void total(std::string_view name, double seconds) {
        text_ += fmt::format("{:>5.1f}% {:>9.3f} {:>6}  {}\n", 100 * share(seconds),
                             per_step(seconds) * 1e3, "", name);
    }

    std::string rate(const ProfileRow& row) const {
        if (row.seconds <= 0.0 || row.flops + row.bytes <= 0.0) {
            return "";
        }
        return ceilings_.compute_bounds(row.flops, row.bytes)
                   ? fmt::format("{:.1f} GFLOP/s", row.flops / row.seconds / 1e9)
                   : fmt::format("{:.2f} GB/s", row.bytes / row.seconds / 1e9);
    }

    std::string of_best(const ProfileRow& row) const {
        const double least = ceilings_.least_seconds(row.flops, row.bytes);
        return least > 0.0 && row.seconds > 0.0
                   ? fmt::format("{:.0f}%", 100.0 * least / row.seconds)
                   : "";
    }

    /// Of all threads' time: what is missing, some wait for others or one does alone.
    std::string busy(const ProfileRow& row) const {
        const double all = row.seconds * summary_.num_threads;
        return row.thread_seconds > 0.0 && all > 0.0
                   ? fmt::format("{:.0f}%", 100.0 * row.thread_seconds / all)
                   : "";
    }

    void phases() {
        std::vector<std::string> names;
        for (const ProfileRow& row : summary_.rows) {
            if (std::find(names.begin(), names.end(), row.phase) == names.end()) {
                names.push_back(row.phase);
            }
        }
        std::string line;
        for (const std::string& name : names) {
            line += fmt::format("{}{} {:.1f}%", line.empty() ? "" : ", ",
                                name.empty() ? "(none)" : name,
                                100.0 * share(seconds_of_phase(summary_, name)));
        }
        text_ += fmt::format("by phase: {}\n", line);
    }

    const ProfileSummary& summary_;
    const Ceilings& ceilings_;
    std::string text_;
};

}  // namespace

double Ceilings::least_seconds(double flops, double bytes) const {
    return std::max(flops_per_second > 0.0 ? flops / flops_per_second : 0.0,
                    bytes_per_second > 0.0 ? bytes / bytes_per_second : 0.0);
}

bool Ceilings::compute_bounds(double flops, double bytes) const {
    return least_seconds(flops, 0.0) > least_seconds(0.0, bytes);
}

ProfileSummary summarize(const WorkRecorder& recorder, const DeviceInfo& device) {
    ProfileSummary summary;
    summary.num_threads = device.num_threads;
    summary.main = device.compute_runs_beside ? Lane::compute : Lane::host;
    add_sections(recorder, summary);
    const std::vector<double> thread_seconds = thread_seconds_of(recorder);
    std::map<std::tuple<Lane, std::string, std::string, std::string>, ProfileRow> rows;
    std::vector<std::pair<double, double>> spans;
    for (size_t i = 0; i < recorder.records().size(); ++i) {
        const WorkRecord& record = recorder.records()[i];
        if (record.section < 0 ||
            !is_step(recorder.sections()[static_cast<size_t>(record.section)])) {
            continue;
        }
        const std::string phase = recorder.labels()[static_cast<size_t>(record.label)].phase;
        ProfileRow& row = rows[{record.lane, record.work.name, record.work.detail, phase}];
        row.name = record.work.name;
        row.detail = record.work.detail;
        row.phase = phase;
        row.lane = record.lane;
        row.calls += 1;
        row.seconds += record.seconds();
        row.flops += record.work.flops;
        row.bytes += record.work.bytes;
        row.thread_seconds += thread_seconds[i];
        summary.flops += record.work.flops;
        if (record.lane == summary.main) {
            spans.emplace_back(record.begin_s, record.end_s);
        }
    }
    summary.working_seconds = covered(std::move(spans));
    for (auto& [key, row] : rows) {
        summary.rows.push_back(std::move(row));
    }
    std::stable_sort(summary.rows.begin(), summary.rows.end(),
                     [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
    return summary;
}

std::string table_text(const ProfileSummary& summary, const Ceilings& ceilings) {
    return TableText(summary, ceilings).text();
}

}  // namespace lathe
