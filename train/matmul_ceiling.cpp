#include "train/matmul_ceiling.h"

#include <algorithm>
#include <functional>
#include <new>
#include <optional>
#include <span>
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
/// Made in parts, as memory may be short.
Buffer varied_matrix(Backend& backend, int64_t n, DType dtype) {
    Buffer matrix = backend.allocate({n, n}, dtype, MemoryCategory::workspace);
    const int64_t rows = std::min(n, std::max<int64_t>(1, (int64_t{1} << 18) / n));
    std::vector<float> values(static_cast<size_t>(rows * n));
    const Buffer exact = backend.allocate({rows, n}, DType::f32, MemoryCategory::workspace);
    Workspace workspace(backend);
    for (int64_t row = 0; row < n; row += rows) {
        for (size_t i = 0; i < values.size(); ++i) {
            // The golden ratio's multiples spread evenly over [-0.5, 0.5).
            const auto index = static_cast<uint32_t>(row * n) + static_cast<uint32_t>(i);
            values[i] = static_cast<float>(index * 2654435769U) * 0x1p-32F - 0.5F;
        }
        backend.copy_from_host(exact, values.data());
        workspace.run(Cast{.x = exact, .y = matrix.tensor().slice(row, row + rows)});
    }
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

/// Nothing where matrices of n x n do not fit beside what a run already holds.
std::optional<Measured> measure_if_it_fits(Backend& backend, DType dtype, int64_t n) {
    try {
        return measure_product(backend, dtype, n);
    } catch (const std::bad_alloc&) {
        return std::nullopt;
    } catch (const Error&) {
        return std::nullopt;
    }
}

/// Bytes a second that `work` moves, the best of several runs, in `passes` over one of its vectors.
double best_bandwidth(Backend& backend, int num_vectors, int passes,
                      const std::function<void(std::span<const Buffer> vectors)>& work) {
    // The largest are beyond any cache.
    constexpr int64_t kFewest = int64_t{1} << 20;
    constexpr int64_t kMost = int64_t{64} << 20;
    for (int64_t elements = kFewest;; elements *= 2) {
        std::vector<Buffer> vectors;
        for (int i = 0; i < num_vectors; ++i) {
            vectors.push_back(backend.allocate({elements}, DType::f32, MemoryCategory::workspace));
            backend.fill_zero(vectors.back(), Stream::compute);
        }
        const auto run = [&] { work(vectors); };
        const double seconds = seconds_once_set_up(backend, run);
        if (elements == kMost || seconds > kLongSeconds) {
            return passes * static_cast<double>(vectors.front().tensor().bytes()) /
                   best_seconds(backend, run, seconds);
        }
    }
}

}  // namespace

double matmul_ceiling(Backend& backend, DType dtype) {
    Measured measured = measure_product(backend, dtype, kSmallestSize);
    for (int64_t n = 2 * kSmallestSize; !measured.is_large_enough; n *= 2) {
        const std::optional<Measured> larger = measure_if_it_fits(backend, dtype, n);
        if (!larger) {
            break;
        }
        measured = *larger;
    }
    return measured.flops_per_second;
}

double memory_bandwidth(Backend& backend) {
    // sum += x reads both and writes sum.
    return best_bandwidth(backend, 2, 3, [&](std::span<const Buffer> vectors) {
        const Tensor contributions[] = {vectors[1]};
        Workspace(backend).run(Accumulate{.sum = vectors[0], .contributions = contributions});
    });
}

MemoryReadProbe::MemoryReadProbe(Backend& backend, int64_t bytes) : backend_(backend) {
    const int64_t chunk_bytes = kChunkElements * size_of(DType::f32);
    const int64_t chunks = std::max<int64_t>(1, bytes / chunk_bytes);
    x_ = backend.allocate({chunks * kChunkElements}, DType::f32, MemoryCategory::workspace);
    partial_ = backend.allocate({chunks}, DType::f64, MemoryCategory::workspace);
    backend.fill_zero(x_, Stream::compute);
}

double MemoryReadProbe::measure() {
    const double seconds = backend_.seconds_of(
        [&] { Workspace(backend_).run(SquaredNorm{.x = x_, .partial = partial_}); });
    return static_cast<double>(x_.tensor().bytes()) / seconds;
}

}  // namespace lathe
