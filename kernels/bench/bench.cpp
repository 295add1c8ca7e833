// lathe_kernels_bench: the CPU backend's operations at real sizes, as rates and as shares of this
// machine's ceilings. Options of Google Benchmark, and LATHE_BENCH_THREADS.
//
// The machine may be shared, so each case reports its best repetition, and the ceilings are
// measured again beside every case.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <thread>

#include "kernels/bench/cases.h"
#include "kernels/bench/ceiling.h"
#include "kernels/bench/timer.h"
#include "kernels/cpu/cpu_backend.h"

namespace lathe::bench {
namespace {

void run_case(benchmark::State& state, const BenchCase& bench_case, Ceiling& ceiling,
              DType compute) {
    bench_case.run();  // makes what is kept: workspace, primitives
    ceiling.measure();
    double best = std::numeric_limits<double>::infinity();
    for (auto _ : state) {
        const double seconds = seconds_of(bench_case.run);
        state.SetIterationTime(seconds);
        best = std::min(best, seconds);
    }
    ceiling.measure();
    state.counters["best_us"] = best * 1e6;
    if (bench_case.flops > 0) {
        state.counters["GFLOP/s"] = bench_case.flops / best / 1e9;
        state.counters["share"] = bench_case.flops / best / ceiling.flops_per_second(compute);
    } else {
        state.counters["GB/s"] = bench_case.bytes / best / 1e9;
        state.counters["share"] = bench_case.bytes / best / ceiling.bytes_per_second();
    }
}

int run(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    const char* wanted = std::getenv("LATHE_BENCH_THREADS");
    const int num_threads =
        wanted != nullptr ? std::max(1, std::atoi(wanted))
                          : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    const auto backend = make_cpu_backend(num_threads);
    Ceiling ceiling(num_threads);
    ceiling.measure();
    for (const ModelSizes& sizes : {quickstart_sizes(), gpt2_124m_sizes()}) {
        for (const DType compute : {DType::f32, DType::bf16}) {
            for (const BenchCase& bench_case : make_cases(*backend, sizes, compute)) {
                benchmark::RegisterBenchmark(bench_case.name.c_str(), [=, &ceiling](auto& state) {
                    run_case(state, bench_case, ceiling, compute);
                })->UseManualTime();
            }
        }
    }
    benchmark::RunSpecifiedBenchmarks();
    benchmark::ClearRegisteredBenchmarks();
    fmt::print("{}, {} threads: f32 {:.0f} GFLOP/s, bf16 {:.0f} GFLOP/s, copy {:.1f} GB/s\n",
               backend->device().name, num_threads, ceiling.flops_per_second(DType::f32) / 1e9,
               ceiling.flops_per_second(DType::bf16) / 1e9, ceiling.bytes_per_second() / 1e9);
    return 0;
}

}  // namespace
}  // namespace lathe::bench

int main(int argc, char** argv) { return lathe::bench::run(argc, argv); }
