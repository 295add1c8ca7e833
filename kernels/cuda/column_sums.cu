#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.h"

namespace lathe::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
/// Rows that a warp loads before it adds the first of them.
constexpr int kLoadedAtOnce = 4;

/// Adds this warp's rows (every eighth) of the chunk to its lanes' packs of sums.
template <typename T, bool kAligned, bool kNormed>
__device__ __forceinline__ void add_rows(const SummedRows<T>& from, int64_t begin, int64_t end,
                                         int64_t column, int count,
                                         float (&sums)[2][Pack<T>::kSize]) {
    constexpr int kSize = Pack<T>::kSize;
    for (int64_t first = begin + threadIdx.x / kWarpSize; first < end;
         first += kLoadedAtOnce * kWarps) {
        Pack<T> d_y[kLoadedAtOnce];
        Pack<T> x[kLoadedAtOnce];
#pragma unroll
        for (int i = 0; i < kLoadedAtOnce; ++i) {
            const int64_t row = first + i * kWarps;
            if (row < end) {
                d_y[i] = load_pack<kAligned>(from.d_y + row * from.columns + column, count);
                if constexpr (kNormed) {
                    x[i] = load_pack<kAligned>(from.x + row * from.columns + column, count);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < kLoadedAtOnce; ++i) {
            const int64_t row = first + i * kWarps;
            if (row < end) {
                float mean = 0.0F;
                float rstd = 0.0F;
                if constexpr (kNormed) {
                    mean = from.mean != nullptr ? from.mean[row] : 0.0F;
                    rstd = from.rstd[row];
                }
#pragma unroll
                for (int j = 0; j < kSize; ++j) {
                    const float gradient = to_float(d_y[i].values[j]);
                    sums[0][j] += gradient;
                    if constexpr (kNormed) {
                        sums[1][j] =
                            fmaf(gradient, (to_float(x[i].values[j]) - mean) * rstd, sums[1][j]);
                    }
                }
            }
        }
    }
}

/// Block (x, y): tile of columns x, chunk of rows y.
template <typename T, bool kAligned, bool kNormed>
__global__ void __launch_bounds__(kThreads)
    row_chunk_kernel(SummedRows<T> from, Partials partials) {
    constexpr int kSize = Pack<T>::kSize;
    __shared__ float shared[kWarps][kSize][kWarpSize];
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const int64_t pack = static_cast<int64_t>(blockIdx.x) * kWarpSize + lane;
    const int64_t left = from.columns - pack * kSize;
    const int64_t chunk = blockIdx.y;
    float sums[2][kSize] = {};
    if (left > 0) {
        add_rows<T, kAligned, kNormed>(from, chunk * from.rows / partials.chunks,
                                       (chunk + 1) * from.rows / partials.chunks, pack * kSize,
                                       left < kSize ? static_cast<int>(left) : kSize, sums);
    }
    const int64_t packs = partials.stride / kSize;
#pragma unroll
    for (int which = 0; which < (kNormed ? 2 : 1); ++which) {
        __syncthreads();  // what the round before left is read
#pragma unroll
        for (int j = 0; j < kSize; ++j) {
            shared[warp][j][lane] = sums[which][j];
        }
        __syncthreads();
        // Warps in order; warp j adds element j of every pack.
        if (warp < kSize && pack < packs) {
            float total = shared[0][warp][lane];
#pragma unroll
            for (int i = 1; i < kWarps; ++i) {
                total += shared[i][warp][lane];
            }
            partials.sums(which)[chunk * partials.stride + warp * packs + pack] = total;
        }
    }
}

/// Block (x, y): 32 elements of the partial sums y. Warps add a range of chunks each, then the
/// first warp the ranges.
__global__ void __launch_bounds__(kThreads)
    partials_kernel(Partials partials, int64_t pack_size, int64_t columns, float* output0,
                    float* output1) {
    __shared__ float shared[kWarps][kWarpSize];
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const int64_t element = static_cast<int64_t>(blockIdx.x) * kWarpSize + lane;
    float* output = blockIdx.y == 0 ? output0 : output1;
    if (output == nullptr) {
        return;
    }
    float total = 0.0F;
    if (element < partials.stride) {
        const float* from = partials.sums(static_cast<int>(blockIdx.y)) + element;
        const int64_t end = (warp + 1) * partials.chunks / kWarps;
#pragma unroll 4
        for (int64_t chunk = warp * partials.chunks / kWarps; chunk < end; ++chunk) {
            total += from[chunk * partials.stride];
        }
    }
    shared[warp][lane] = total;
    __syncthreads();
    const int64_t packs = partials.stride / pack_size;
    const int64_t column = element % packs * pack_size + element / packs;
    if (warp == 0 && element < partials.stride && column < columns) {
#pragma unroll
        for (int i = 1; i < kWarps; ++i) {
            total += shared[i][lane];
        }
        output[column] = total;
    }
}

}  // namespace

template <typename T>
void sum_row_chunks(const char* name, const SummedRows<T>& rows, const Partials& partials,
                    cudaStream_t stream) {
    const bool aligned = rows.columns % Pack<T>::kSize == 0 && are_aligned(rows.d_y, rows.x);
    const bool normed = rows.x != nullptr;
    const auto kernel =
        aligned ? (normed ? row_chunk_kernel<T, true, true> : row_chunk_kernel<T, true, false>)
                : (normed ? row_chunk_kernel<T, false, true> : row_chunk_kernel<T, false, false>);
    const int64_t tiles = divide_up(partials.stride / Pack<T>::kSize, kWarpSize);
    launch(name, kernel,
           {.blocks = dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(partials.chunks)),
            .threads = kThreads,
            .stream = stream},
           rows, partials);
}
template void sum_row_chunks(const char*, const SummedRows<float>&, const Partials&, cudaStream_t);
template void sum_row_chunks(const char*, const SummedRows<Bf16>&, const Partials&, cudaStream_t);

void sum_partials(const char* name, const Partials& partials, int64_t pack_size, int64_t columns,
                  float* output0, float* output1, cudaStream_t stream) {
    launch(name, partials_kernel,
           {.blocks = dim3(static_cast<unsigned>(divide_up(partials.stride, kWarpSize)),
                           output1 == nullptr ? 1 : 2),
            .threads = kThreads,
            .stream = stream},
           partials, pack_size, columns, output0, output1);
}

}  // namespace lathe::cuda
