#include "train/matmul_ceiling.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

namespace lathe {
namespace {

constexpr int64_t kSmallestSize = 256;
constexpr int64_t kLargestSize = 2048;
/// A product that takes longer is large enough to show the device's rate.
constexpr double kLongSeconds = 0.1;
constexpr double kBudgetSeconds = 0.4;

double seconds_of(Backend& backend, const std::function<void()>& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    backend.synchronize(Stream::compute);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The shortest time of runs that fill the budget; `first_seconds` is one already made.
double best_seconds(Backend& backend, const std::function<void()>& work, double first_seconds) {
    double best = first_seconds;
    for (double spent = 0.0; spent < kBudgetSeconds && first_seconds < kBudgetSeconds;) {
        const double seconds = seconds_of(backend, work);
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

}  // namespace

double matmul_ceiling(Backend& backend, DType dtype) {
    for (int64_t n = kSmallestSize;; n *= 2) {
        const Buffer a = varied_matrix(backend, n, dtype);
        const Buffer b = varied_matrix(backend, n, dtype);
        const Buffer d = backend.allocate({n, n}, dtype, MemoryCategory::workspace);
        Workspace workspace(backend);
        const auto work = [&] { workspace.run(Matmul{.a = a, .b = b, .d = d}); };
        // The first product of a size may also set it up.
        double seconds = seconds_of(backend, work);
        if (seconds < kLongSeconds) {
            seconds = std::min(seconds, seconds_of(backend, work));
        }
        if (n == kLargestSize || seconds > kLongSeconds) {
            const auto size = static_cast<double>(n);
            return 2.0 * size * size * size / best_seconds(backend, work, seconds);
        }
    }
}

double memory_bandwidth(Backend& backend) {
    // Beyond any cache; sum += x reads both and writes sum.
    constexpr int64_t kElements = int64_t{32} << 20;
    const auto vector = [&] {
        Buffer buffer = backend.allocate({kElements}, DType::f32, MemoryCategory::workspace);
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
    const double seconds = best_seconds(backend, work, seconds_of(backend, work));
    return 3.0 * static_cast<double>(x.tensor().bytes()) / seconds;
}

}  // namespace lathe
