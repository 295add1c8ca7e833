// What Google Benchmark's runs become: a table on the screen, and JSON.
#pragma once

#include <benchmark/benchmark.h>

#include <sstream>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace lathe::bench {

// Names of counters, beside "flops" and "bytes" of one run; rates and peaks by the second.
inline constexpr const char* kMedianMicroseconds = "median_us";
inline constexpr const char* kFlopsPerSecond = "flops_per_second";
inline constexpr const char* kBytesPerSecond = "bytes_per_second";
inline constexpr const char* kPeak = "peak_per_second";
inline constexpr const char* kShareOfPeak = "share_of_peak";

class TableAndJson final : public benchmark::BenchmarkReporter {
  public:
    explicit TableAndJson(const DeviceInfo& device);

    bool ReportContext(const Context& context) override;
    void ReportRuns(const std::vector<Run>& runs) override;
    void Finalize() override { json_reporter_.Finalize(); }

    /// Google Benchmark's format, once everything has run.
    std::string json() const { return json_.str(); }

  private:
    std::string device_;
    std::ostringstream json_;
    benchmark::JSONReporter json_reporter_;
};

}  // namespace lathe::bench
