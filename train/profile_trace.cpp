#include "train/profile_trace.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

namespace lathe {
namespace {

/// Lanes, as thread numbers, from the top down.
enum Tid { kSteps, kPhases, kHost, kCompute, kCommunication, kThreads };

Tid tid_of(Lane lane) {
    switch (lane) {
        case Lane::host:
            return kHost;
        case Lane::compute:
            return kCompute;
        case Lane::communication:
            return kCommunication;
    }
    return kHost;
}

std::string json_text(std::string_view text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

class TraceText {
  public:
    TraceText(const WorkRecorder& recorder, const DeviceInfo& device, const TraceProcess& process)
        : recorder_(recorder), device_(device), process_(process) {}

    std::string text() {
        text_ = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [";
        names();
        sections();
        phases();
        for (const WorkRecord& record : recorder_.records()) {
            work(record);
        }
        threads();
        memory();
        return text_ + "\n]}\n";
    }

  private:
    void begin_event() { text_ += text_.back() == '[' ? "\n" : ",\n"; }

    void name(const char* what, int tid, std::string_view name) {
        begin_event();
        fmt::format_to(
            std::back_inserter(text_),
            R"({{"ph": "M", "name": "{}", "pid": {}, "tid": {}, "args": {{"name": {}}}}})", what,
            process_.rank, tid, json_text(name));
    }

    void lane(int tid, std::string_view lane_name) {
        name("thread_name", tid, lane_name);
        begin_event();
        fmt::format_to(
            std::back_inserter(text_),
            R"({{"ph": "M", "name": "thread_sort_index", "pid": {}, "tid": {}, "args": {{"sort_index": {}}}}})",
            process_.rank, tid, tid);
    }

    void names() {
        name("process_name", kSteps, process_.name);
        lane(kSteps, "steps");
        lane(kPhases, "phases");
        lane(kHost, device_.compute_runs_beside ? "host" : "host: compute stream");
        if (device_.compute_runs_beside) {
            lane(kCompute, "compute stream");
        }
        if (device_.communication_runs_beside) {
            lane(kCommunication, "communication stream");
        }
        for (int thread = 0; thread < recorder_.threads().num_threads(); ++thread) {
            if (!recorder_.threads().of(thread).empty()) {
                lane(kThreads + thread, fmt::format("thread {}", thread));
            }
        }
    }

    /// `args` is a JSON object.
    void span(std::string_view name, int tid, double begin_s, double end_s, std::string_view args) {
        begin_event();
        fmt::format_to(
            std::back_inserter(text_),
            R"({{"ph": "X", "name": {}, "pid": {}, "tid": {}, "ts": {:.3f}, "dur": {:.3f}, "args": {}}})",
            json_text(name), process_.rank, tid, microseconds(begin_s), (end_s - begin_s) * 1e6,
            args);
    }

    double microseconds(double time_s) const { return (time_s - process_.zero_s) * 1e6; }

    void sections() {
        for (const WorkRecorder::Section& section : recorder_.sections()) {
            span(fmt::format("{} {}", section.kind, section.step), kSteps, section.begin_s,
                 section.end_s, fmt::format(R"({{"step": {}}})", section.step));
        }
    }

    void phases() {
        const auto& labels = recorder_.labels();
        // The first one stands for what came before any.
        for (size_t i = 1; i + 1 < labels.size(); ++i) {
            const auto& label = labels[i];
            span(fmt::format("{}{}{}", label.phase, label.unit.empty() ? "" : " ", label.unit),
                 kPhases, label.begin_s, labels[i + 1].begin_s,
                 fmt::format(R"({{"phase": {}, "unit": {}}})", json_text(label.phase),
                             json_text(label.unit)));
        }
    }

    void work(const WorkRecord& record) {
        const auto& label = recorder_.labels()[static_cast<size_t>(record.label)];
        const int64_t step =
            record.section < 0 ? 0 : recorder_.sections()[static_cast<size_t>(record.section)].step;
        const std::string args = fmt::format(
            R"({{"flops": {:.0f}, "bytes": {:.0f}, "shape": {}, "subject": {}, "phase": {}, "unit": {}, "step": {}}})",
            record.work.flops, record.work.bytes, json_text(record.work.detail),
            json_text(record.work.subject), json_text(label.phase), json_text(label.unit), step);
        span(record.work.name, tid_of(record.lane), record.begin_s, record.end_s, args);
        if (record.lane != Lane::host) {
            span(record.work.name, kHost, record.issue_begin_s, record.issue_end_s,
                 fmt::format(R"({{"step": {}}})", step));
        }
    }

    void threads() {
        for (int thread = 0; thread < recorder_.threads().num_threads(); ++thread) {
            for (const ThreadSpans::Span& one : recorder_.threads().of(thread)) {
                if (one.record < 0) {
                    continue;
                }
                const WorkRecord& record = recorder_.records()[static_cast<size_t>(one.record)];
                span(record.work.name, kThreads + thread, one.begin_s, one.end_s,
                     fmt::format(R"({{"shape": {}}})", json_text(record.work.detail)));
            }
        }
    }

    void memory() {
        for (const MemorySample& sample : recorder_.memory()) {
            begin_event();
            fmt::format_to(
                std::back_inserter(text_),
                R"({{"ph": "C", "name": "memory", "pid": {}, "tid": {}, "ts": {:.3f}, "args": {{)",
                process_.rank, int{kSteps}, microseconds(sample.time_s));
            for (size_t i = 0; i < sample.bytes.size(); ++i) {
                fmt::format_to(std::back_inserter(text_), "{}{}: {}", i == 0 ? "" : ", ",
                               json_text(name_of(static_cast<MemoryCategory>(i))), sample.bytes[i]);
            }
            text_ += "}}";
        }
    }

    const WorkRecorder& recorder_;
    const DeviceInfo& device_;
    const TraceProcess& process_;
    std::string text_;
};

}  // namespace

std::string trace_json(const WorkRecorder& recorder, const DeviceInfo& device,
                       const TraceProcess& process) {
    return TraceText(recorder, device, process).text();
}

}  // namespace lathe
