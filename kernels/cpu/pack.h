// Copies matrices into the operand layouts of TileMatmul.
#pragma once

#include "kernels/cpu/tile_matmul.h"

namespace lathe::cpu {

/// A row-major matrix in memory, seen transposed or not.
struct MatrixView {
    const void* data = nullptr;
    DType dtype = DType::f32;  ///< f32 or bf16
    int64_t stride = 0;        ///< elements from one stored row to the next
    bool transposed = false;   ///< element (i, j) is stored at [j][i] instead of [i][j]

    /// The view whose (0, 0) is this one's (i, j).
    MatrixView at(int64_t i, int64_t j) const {
        const int64_t offset = transposed ? j * stride + i : i * stride + j;
        return {static_cast<const std::byte*>(data) + offset * size_of(dtype), dtype, stride,
                transposed};
    }
};

/// destination[m, k] (dense rows, `operand` type) = a[0:m, 0:k]. f32 from bf16 or the same type.
void pack_left(void* destination, DType operand, const MatrixView& a, int64_t m, int64_t k);

/// destination (`layout`, `operand` type) = b[0:k, 0:n].
void pack_right(void* destination, DType operand, const PanelLayout& layout, const MatrixView& b,
                int64_t k, int64_t n);

}  // namespace lathe::cpu
