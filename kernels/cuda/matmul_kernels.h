// What the files of Matmul share: the product as kernels take it, and what is done to its sums.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/matmul_shapes.h"

namespace lathe::cuda {

/// One operand as it lies in memory. Its elements run along `extent` (M or N) and along K'; one of
/// the two strides is 1.
struct Operand {
    const void* data = nullptr;
    int64_t extent = 0;
    int64_t extent_stride = 0;
    int64_t depth_stride = 0;
    bool aligned = false;  ///< every row as stored begins on 16 bytes

    __host__ __device__ bool is_depth_contiguous() const { return depth_stride == 1; }
};

struct Product {
    Operand a;
    Operand b;
    int64_t depth = 0;        ///< K'
    int64_t splits = 1;       ///< parts of the sum over K'
    int64_t split_depth = 0;  ///< K' of each part but the last
};

/// Where sums [rows, columns] go, and what happens to them on the way: see Matmul. The sums of part
/// s of a product that is split go to d + s * rows * columns.
struct Epilogue {
    void* d = nullptr;
    int64_t rows = 0;
    int64_t columns = 0;
    bool wide = false;  ///< d is f32
    bool accumulate = false;
    const void* bias = nullptr;
    Activation activation = Activation::none;
    void* pre_activation = nullptr;
    const void* residual = nullptr;
    bool aligned = false;  ///< every row of every argument begins on 16 bytes
};

// The launchers, a file each. `e` finishes the sums themselves, also those of a part.

void multiply_bf16(const Product& p, MatmulKernel kernel, const Epilogue& e, cudaStream_t stream);
void multiply_f32(const Product& p, MatmulKernel kernel, const Epilogue& e, cudaStream_t stream);
/// At most kMostFewRows rows of aligned operands, both contiguous along K'.
void multiply_few_rows(DType compute, const Product& p, const Epilogue& e, cudaStream_t stream);
/// Adds the `splits` parts of f32 sums in order and finishes them.
void finish_partials(DType compute, const float* partials, int64_t splits, const Epilogue& e,
                     cudaStream_t stream);
/// Finishes sums that were rounded to the compute type already. May be in place.
void finish_rounded(DType compute, const void* sums, const Epilogue& e, cudaStream_t stream);

}  // namespace lathe::cuda
