// OptimizerRows: the memory of every unit's optimizer state, the device's own or offloaded.
// Offloaded rows are reached piece by piece, through windows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "parallel/parallel_config.h"
#include "parallel/sharding.h"

namespace lathe {

class OptimizerRows {
  public:
    /// `rows_per_unit` rows of sizes[unit] elements for each unit; offloaded as `config` says.
    OptimizerRows(Backend& backend, std::span<const int64_t> sizes, int rows_per_unit, DType dtype,
                  const ParallelConfig& config);

    bool offloaded() const { return offloaded_; }
    /// A unit's row; where it is offloaded, operations do not reach it.
    const Tensor& row(int unit, int index) const {
        return rows_[static_cast<size_t>(unit) * rows_per_unit_ + static_cast<size_t>(index)];
    }

    /// `range` in the pieces in which offloaded rows are walked through; otherwise in one. Empty
    /// ranges have none.
    std::vector<Range> pieces(Range range) const;

    /// An offloaded row in the device's memory, where collectives reach the whole of it.
    Buffer copy(const Tensor& row);
    std::vector<float> read(const Tensor& row);

  private:
    Backend& backend_;
    size_t rows_per_unit_;
    bool offloaded_;
    std::vector<Buffer> memory_;
    std::vector<Tensor> rows_;
};

}  // namespace lathe
