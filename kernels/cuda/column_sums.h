// Sums over the rows of a matrix, in two stages of fixed order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/element.h"

namespace lathe::cuda {

/// The rows whose columns are summed: d_y, and with x also d_y (x - mean) rstd.
template <typename T>
struct SummedRows {
    const T* d_y;
    const T* x = nullptr;
    const float* mean = nullptr;  ///< absent: 0
    const float* rstd = nullptr;
    int64_t rows;
    int64_t columns;
};

/// Partial sums as a matrix of floats [chunks, stride], stride = packs * size of a pack: element e
/// of pack p stands at e * packs + p, so that lanes that own packs write side by side.
struct Partials {
    float* data;
    int64_t chunks;
    int64_t stride;

    __device__ __forceinline__ float* sums(int which) const {
        return data + which * chunks * stride;
    }
};

/// First stage: partials.sums(0) of d_y, and with x sums(1) of d_y (x - mean) rstd, over
/// partials.chunks chunks of rows.
template <typename T>
void sum_row_chunks(const char* name, const SummedRows<T>& rows, const Partials& partials,
                    cudaStream_t stream);

/// Second stage: outputs[i] = partials.sums(i) summed over chunks, for those that are not null.
void sum_partials(const char* name, const Partials& partials, int64_t pack_size, int64_t columns,
                  float* output0, float* output1, cudaStream_t stream);

}  // namespace lathe::cuda
