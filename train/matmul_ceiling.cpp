#include "train/matmul_ceiling.h"

#include <algorithm>
#include <functional>
#include <vector>

namespace lathe {
namespace {

constexpr int64_t kSmallestSize = 256;
constexpr int64_t kLargestSize = 8192;
/// What takes longer is large enough to show the device's rate.
constexpr double kLongSeconds = 0.03;
constexpr double kBudgetSeconds = 0.4;

/// The first run of a size may also set it up, which is no measure of the device.
double seconds_once_set_up(Backend& backend, const std::function<void()>& work) {
    const double first = backend.seconds_of(work);
    return first > kBudgetSeconds ? first : std::min(first, backend.seconds_of(work));
}

/// The shortest time of runs that fill the budget; `first_seconds` is one already made.
double best_seconds(Backend& backend, const std::function<void()>& work, double first_seconds) {
    double best = first_seconds;
    for (double spent = 0.0; spent < kBudgetSeconds && first_seconds < kBudgetSeconds;) {
        const double seconds = backend.seconds_of(work);
        best = std::min(best, seconds);
        spent += seconds;
    }
    return best;
}

/// [n, n] of varied numbers: a processor may clock higher on zeros than on what training gives it.
Buffer varied_matrix(Backend& backend, int64_t n, DType dtype) {
    std::vector<float> values(static_cast<size_t>(n * n));
    for (size_t i = 0; i < values.size(); ++i) {
        // The golden ratio's multiples spread evenly over [-0.5, 0.5).
        values[i] = static_cast<float>(static_cast<uint32_t>(i) * 2654435769U) * 0x1p-32F - 0.5F;
    }
    const Buffer exact = backend.allocate({n, n}, DType::f32, MemoryCategory::workspace);
    backend.copy_from_host(exact, values.data());
    Buffer matrix = backend.allocate({n, n}, dtype, MemoryCategory::workspace);
    Workspace workspace(backend);
    workspace.run(Cast{.x = exact, .y = matrix});
    return matrix;
}

struct Measured {
    double flops_per_second = 0.0;
    bool is_large_enough = false;
};

Measured measure_product(Backend& backend, DType dtype, int64_t n) {
    const Buffer a = varied_matrix(backend, n, dtype);
    const Buffer b = varied_matrix(backend, n, dtype);
    const Buffer d = backend.allocate({n, n}, dtype, MemoryCategory::workspace);
    Workspace workspace(backend);
    const auto work = [&] { workspace.run(Matmul{.a = a, .b = b, .d = d}); };
    double seconds = seconds_once_set_up(backend, work);
    const bool is_large_enough = n == kLargestSize || seconds > kLongSeconds;
    if (is_large_enough) {
        seconds = best_seconds(backend, work, seconds);
    }
    const auto size = static_cast<double>(n);
    return {.flops_per_second = 2.0 * size * size * size / seconds,
            .is_large_enough = is_large_enough};
}

/// Whether matrices of n x n fit beside what a run already holds: two, their product, and one of
/// them in f32.
bool fits(Backend& backend, int64_t n, DType dtype) {
    try {
        const int64_t bytes = n * n * (3 * size_of(dtype) + size_of(DType::f32));
        backend.allocate({bytes / size_of(DType::f32)}, DType::f32, MemoryCategory::workspace);
        return true;
    } catch (const Error&) {
        return false;
    }
}

}  // namespace

double matmul_ceiling(Backend& backend, DType dtype) {
    Measured measured = measure_product(backend, dtype, kSmallestSize);
    for (int64_t n = 2 * kSmallestSize; !measured.is_large_enough && fits(backend, n, dtype);
         n *= 2) {
        measured = measure_product(backend, dtype, n);
    }
    return measured.flops_per_second;
}

double memory_bandwidth(Backend& backend) {
    // The largest are beyond any cache; sum += x reads both and writes sum.
    constexpr int64_t kFewest = int64_t{1} << 20;
    constexpr int64_t kMost = int64_t{64} << 20;
    for (int64_t elements = kFewest;; elements *= 2) {
        const auto vector = [&] {
            Buffer buffer = backend.allocate({elements}, DType::f32, MemoryCategory::workspace);
            backend.fill_zero(buffer, Stream::compute);
            return buffer;
        };
        const Buffer sum = vector();
        const Buffer x = vector();
        const Tensor contributions[] = {x};
        Workspace workspace(backend);
        const auto work = [&] {
            workspace.run(Accumulate{.sum = sum, .contributions = contributions});
        };
        const double seconds = seconds_once_set_up(backend, work);
        if (elements == kMost || seconds > kLongSeconds) {
            return 3.0 * static_cast<double>(x.tensor().bytes()) /
                   best_seconds(backend, work, seconds);
        }
    }
}

}  // namespace lathe
