#include "parallel/optimizer_rows.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace lathe {
namespace {

/// Of an offloaded row that are within reach at once: 4 MiB of each of three rows.
constexpr int64_t kPieceElements = int64_t{1} << 20;

}  // namespace

OptimizerRows::OptimizerRows(Backend& backend, std::span<const int64_t> sizes, int rows_per_unit,
                             DType dtype, const ParallelConfig& config)
    : backend_(backend),
      rows_per_unit_(static_cast<size_t>(rows_per_unit)),
      offloaded_(config.offload == Offload::optimizer) {
    if (offloaded_) {
        // One piece of memory, in the order in which an update walks through it.
        const int64_t elements =
            rows_per_unit * std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
        memory_.push_back(backend.allocate_offloaded({elements}, dtype, config.offload_folder));
    }
    int64_t begin = 0;
    for (const int64_t size : sizes) {
        for (int i = 0; i < rows_per_unit; ++i) {
            if (offloaded_) {
                rows_.push_back(memory_.front().tensor().slice(begin, begin + size));
                begin += size;
            } else {
                memory_.push_back(backend.allocate({size}, dtype, MemoryCategory::optimizer));
                rows_.push_back(memory_.back());
            }
        }
    }
}

std::vector<Range> OptimizerRows::pieces(Range range) const {
    const int64_t most = offloaded_ ? kPieceElements : range.size();
    std::vector<Range> pieces;
    for (int64_t begin = range.begin; begin < range.end; begin += most) {
        pieces.push_back({begin, std::min(begin + most, range.end)});
    }
    return pieces;
}

Buffer OptimizerRows::copy(const Tensor& row) {
    Buffer copy = backend_.allocate({row.size()}, row.dtype(), MemoryCategory::communication);
    for (const Range piece : pieces({0, row.size()})) {
        OffloadWindow window = backend_.open_offloaded(slice(row, piece), OffloadUse::read);
        backend_.copy(slice(copy, piece), window.tensor, Stream::compute);
        backend_.close_offloaded(std::move(window));
    }
    return copy;
}

std::vector<float> OptimizerRows::read(const Tensor& row) {
    const bool has_values = backend_.device().computes;
    std::vector<float> values(has_values ? static_cast<size_t>(row.size()) : 0);
    for (const Range piece : pieces({0, row.size()})) {
        OffloadWindow window = backend_.open_offloaded(slice(row, piece), OffloadUse::read);
        if (has_values) {
            backend_.copy_to_host(values.data() + piece.begin, window.tensor);
        }
        backend_.close_offloaded(std::move(window));
    }
    return values;
}

}  // namespace lathe
