#include "kernels/bench/bench.h"

#include <benchmark/benchmark.h>
#include <regex.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "kernels/bench/ceiling.h"
#include "kernels/bench/reporter.h"
#include "kernels/files.h"

namespace lathe::bench {
namespace {

constexpr size_t kFewestSamples = 3;
constexpr size_t kMostSamples = 1000;

/// One case on one backend.
struct Entry {
    BenchCase bench_case;
    Backend* backend;
};

/// An extended regular expression of POSIX (std::regex does not compile without warnings under the
/// sanitizers).
class Filter {
  public:
    explicit Filter(const std::string& text) {
        const int status = regcomp(&expression_, text.c_str(), REG_EXTENDED | REG_NOSUB);
        if (status != 0) {
            std::array<char, 128> reason{};
            regerror(status, &expression_, reason.data(), reason.size());
            fail_usage("--filter {}: not a regular expression: {}", text, reason.data());
        }
    }
    Filter(const Filter&) = delete;
    Filter& operator=(const Filter&) = delete;
    ~Filter() { regfree(&expression_); }

    bool matches(const std::string& name) const {
        return regexec(&expression_, name.c_str(), 0, nullptr, 0) == 0;
    }

  private:
    regex_t expression_{};
};

std::vector<Entry> wanted_entries(Backend& backend, Backend* library, const BenchOptions& options) {
    std::vector<Entry> entries;
    const Filter filter(options.filter);
    const auto add = [&](BenchCase bench_case, Backend& on) {
        if (filter.matches(bench_case.name)) {
            entries.push_back({std::move(bench_case), &on});
        }
    };
    for (const ModelSizes& sizes : options.models) {
        for (const BenchCase& bench_case : make_cases(sizes, options.compute)) {
            add(bench_case, backend);
            if (library != nullptr && bench_case.is_product()) {
                BenchCase by_library = bench_case;
                by_library.name += "/cublas";
                add(std::move(by_library), *library);
            }
        }
    }
    LATHE_CHECK_USAGE(!entries.empty(), "--filter {}: no case has such a name; --list shows them",
                      options.filter);
    return entries;
}

/// Seconds of single runs, each with cold caches, as operations in a training step meet them.
std::vector<double> samples_of(const Entry& entry, Ceiling& ceiling, double min_seconds) {
    using Clock = std::chrono::steady_clock;
    const auto prepared = entry.bench_case.prepare(*entry.backend);
    prepared->issue();  // sets up what is kept: workspace, a library's plans
    std::vector<double> samples;
    const auto begin = Clock::now();
    while (samples.size() < kFewestSamples ||
           (samples.size() < kMostSamples &&
            std::chrono::duration<double>(Clock::now() - begin).count() < min_seconds)) {
        ceiling.flush_caches();
        samples.push_back(entry.backend->seconds_of([&] { prepared->issue(); }));
    }
    std::sort(samples.begin(), samples.end());
    return samples;
}

void run_entry(benchmark::State& state, const Entry& entry, Ceiling* ceiling,
               const BenchOptions& options) {
    const BenchCase& bench_case = entry.bench_case;
    state.counters["flops"] = bench_case.cost.flops;
    state.counters["bytes"] = bench_case.cost.bytes();
    for (auto _ : state) {
        if (ceiling == nullptr) {
            const auto prepared = bench_case.prepare(*entry.backend);
            state.SetIterationTime(entry.backend->seconds_of([&] { prepared->issue(); }));
            continue;
        }
        ceiling->measure(options.compute);
        const std::vector<double> samples = samples_of(entry, *ceiling, options.min_seconds);
        ceiling->measure(options.compute);
        // Other load only ever makes a run slower: the fastest one is the device's own.
        const double fastest = samples.front();
        state.SetIterationTime(fastest);
        state.counters[kMedianMicroseconds] = samples[samples.size() / 2] * 1e6;
        const bool arithmetic = bench_case.is_arithmetic();
        const double rate =
            (arithmetic ? bench_case.cost.flops : bench_case.cost.bytes()) / fastest;
        const double peak =
            arithmetic ? ceiling->flops_per_second(options.compute) : ceiling->bytes_per_second();
        state.counters[arithmetic ? kFlopsPerSecond : kBytesPerSecond] = rate;
        state.counters[kPeak] = peak;
        state.counters[kShareOfPeak] = rate / peak;
    }
}

void register_entries(const std::vector<Entry>& entries, Ceiling* ceiling,
                      const BenchOptions& options) {
    for (const Entry& entry : entries) {
        benchmark::RegisterBenchmark(entry.bench_case.name.c_str(),
                                     [&entry, ceiling, &options](benchmark::State& state) {
                                         run_entry(state, entry, ceiling, options);
                                     })
            ->UseManualTime()
            ->Iterations(1)
            ->Repetitions(options.repetitions)
            ->Unit(benchmark::kMicrosecond);
    }
}

void initialize_library(const Backend& backend, const BenchOptions& options) {
    static char name[] = "lathe bench";  // the library keeps the address
    char* arguments[] = {name, nullptr};
    int count = 1;
    benchmark::Initialize(&count, arguments);
    benchmark::AddCustomContext("device", backend.device().kind);
    benchmark::AddCustomContext("device_name", backend.device().name);
    benchmark::AddCustomContext("dtype", std::string(name_of(options.compute)));
}

}  // namespace

void run_bench(Backend& backend, Backend* library, const BenchOptions& options) {
    const std::vector<Entry> entries = wanted_entries(backend, library, options);
    if (options.list) {
        for (const Entry& entry : entries) {
            fmt::print("{}\n", entry.bench_case.name);
        }
        return;
    }
    std::unique_ptr<Ceiling> ceiling;
    if (!options.once) {
        ceiling = std::make_unique<Ceiling>(backend, library);
    }
    initialize_library(backend, options);
    register_entries(entries, ceiling.get(), options);
    TableAndJson reporter(backend.device());
    benchmark::RunSpecifiedBenchmarks(&reporter, "all");
    benchmark::ClearRegisteredBenchmarks();
    if (ceiling != nullptr) {
        fmt::print("peaks measured beside them: {:.4g} TFLOP/s in {}, {:.4g} GB/s\n",
                   ceiling->flops_per_second(options.compute) / 1e12, name_of(options.compute),
                   ceiling->bytes_per_second() / 1e9);
    }
    if (!options.json_file.empty()) {
        write_file(options.json_file, reporter.json());
    }
}

}  // namespace lathe::bench
