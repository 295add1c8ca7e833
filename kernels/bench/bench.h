// The benchmark suite of `lathe bench`: operations at the sizes of models, as rates and as shares
// of what the device does at most.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/bench/cases.h"

namespace lathe::bench {

struct BenchOptions {
    std::vector<ModelSizes> models;
    DType compute = DType::f32;
    std::string filter = ".*";  ///< a regular expression that a case's name contains
    double min_seconds = 0.5;   ///< of samples a case, three samples at least
    int repetitions = 1;        ///< of each case; of several, medians are shown
    bool list = false;          ///< only say the cases' names
    /// Each case is issued once and nothing else is: for profilers and the emulated GPU's counters.
    bool once = false;
    std::string json_file;  ///< empty: none
};

/// Runs what the options ask for and prints a table. `library`, where given, is a backend of the
/// same device whose products are a library's: they are run beside `backend`'s. Throws UsageError
/// where no case is named so, and in a build without Google Benchmark.
void run_bench(Backend& backend, Backend* library, const BenchOptions& options);

}  // namespace lathe::bench
