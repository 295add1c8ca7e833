// Stands in for the benchmark suite in a build without Google Benchmark.
#include "kernels/bench/bench.h"

namespace lathe::bench {

void run_bench(Backend&, Backend*, const BenchOptions&) {
    fail_usage(
        "bench: this lathe was built without Google Benchmark; install the Debian package "
        "libbenchmark-dev and build again");
}

}  // namespace lathe::bench
