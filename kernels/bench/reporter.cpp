#include "kernels/bench/reporter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace lathe::bench {
namespace {

using Run = benchmark::BenchmarkReporter::Run;

/// "1.234 TFLOP/s"; empty where nothing was measured.
std::string rate_text(const Run& run) {
    const auto flops = run.counters.find(kFlopsPerSecond);
    if (flops != run.counters.end()) {
        return fmt::format("{:.4g} TFLOP/s", flops->second.value / 1e12);
    }
    const auto bytes = run.counters.find(kBytesPerSecond);
    return bytes == run.counters.end() ? "" : fmt::format("{:.4g} GB/s", bytes->second.value / 1e9);
}

std::string counter_text(const Run& run, const char* name, const char* unit, double factor) {
    const auto counter = run.counters.find(name);
    return counter == run.counters.end()
               ? ""
               : fmt::format("{:.1f}{}", counter->second.value * factor, unit);
}

void print_row(const Run& run) {
    fmt::print("{:<44} {:>12.1f} {:>12} {:>15} {:>8}\n", run.run_name.function_name,
               run.GetAdjustedRealTime(), counter_text(run, kMedianMicroseconds, "", 1.0),
               rate_text(run), counter_text(run, kShareOfPeak, "%", 100.0));
    std::fflush(stdout);
}

}  // namespace

TableAndJson::TableAndJson(const DeviceInfo& device)
    : device_(device.kind == "cpu"
                  ? fmt::format("{}: {}, {} threads", device.kind, device.name, device.num_threads)
                  : fmt::format("{}: {}", device.kind, device.name)) {
    json_reporter_.SetOutputStream(&json_);
    json_reporter_.SetErrorStream(&json_);
}

bool TableAndJson::ReportContext(const Context& context) {
    fmt::print("{}\n{:<44} {:>12} {:>12} {:>15} {:>8}\n", device_, "", "fastest us", "median us",
               "rate", "of peak");
    return json_reporter_.ReportContext(context);
}

void TableAndJson::ReportRuns(const std::vector<Run>& runs) {
    const auto is_median = [](const Run& run) { return run.aggregate_name == "median"; };
    if (std::any_of(runs.begin(), runs.end(), is_median)) {
        std::for_each(runs.begin(), runs.end(), [&](const Run& run) {
            if (is_median(run)) {
                print_row(run);
            }
        });
    } else if (!runs.empty() && runs.front().repetitions <= 1) {
        std::for_each(runs.begin(), runs.end(), print_row);
    }
    // Without the library's additions to the name: they are the same for all.
    std::vector<Run> named = runs;
    for (Run& run : named) {
        run.run_name.iterations.clear();
        run.run_name.repetitions.clear();
        run.run_name.time_type.clear();
    }
    json_reporter_.ReportRuns(named);
}

}  // namespace lathe::bench
