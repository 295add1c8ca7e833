// LayerNorm and RMSNorm with the residual addition before them. A row is read
// once and stays in the registers of a warp or a block, up to 8192 columns.
#include <algorithm>

#include "kernels/cuda/column_shapes.h"
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.h"

namespace lathe::cuda {
namespace {

constexpr int kThreads = 256;  ///< of the looped kernel

template <typename T>
struct NormRows {
    const T* x;
    const T* residual;  ///< may be null
    T* sum;             ///< with a residual
    const T* weight;
    const T* bias;  ///< layernorm only
    T* y;
    float* mean;  ///< layernorm only
    float* rstd;
    int64_t rows;
    int64_t columns;
    float epsilon;
};

/// The sum of two compute values as it is stored.
template <typename T>
__device__ __forceinline__ T added(T x, T residual) {
    return from_float<T>(to_float(x) + to_float(residual));
}

template <typename T>
__device__ __forceinline__ T normed(T s, float mean, float rstd, T weight, float bias) {
    return from_float<T>(fmaf((to_float(s) - mean) * rstd, to_float(weight), bias));
}

/// 1 / sqrt(squares / columns + epsilon)
__device__ __forceinline__ float rstd_of(float squares, int64_t columns, float epsilon) {
    return 1.0F / sqrtf(squares / static_cast<float>(columns) + epsilon);
}

/// Rows of whole, aligned packs. kRowThreads threads hold a row in registers,
/// kElements columns each at most: packs t, t + kRowThreads, ... Blocks take
/// rows in turn (a warp each, if that is what holds one) and keep weight and
/// bias in shared memory.
template <typename T, int kRowThreads, int kElements>
struct ResidentNorm {
    static constexpr int kSize = Pack<T>::kSize;
    static constexpr int kPacks = kElements / kSize;
    static constexpr int kBlockThreads = kRowThreads == kWarpSize ? 512 : kRowThreads;
    static constexpr int kGroups = kBlockThreads / kRowThreads;

    const NormRows<T>& op;
    const Pack<T>* weight;  ///< of the whole row, in shared memory
    const Pack<T>* bias;

    /// Calls function(index of the pack here, in the row) for each that this
    /// thread holds.
    template <typename Function>
    __device__ __forceinline__ void each_pack(Function&& function) const {
        const int packs = static_cast<int>(op.columns) / kSize;
#pragma unroll
        for (int i = 0; i < kPacks; ++i) {
            const int pack = i * kRowThreads + static_cast<int>(threadIdx.x) % kRowThreads;
            if (pack < packs) {
                function(i, pack);
            }
        }
    }

    /// x, plus the residual where there is one.
    __device__ __forceinline__ void load(Pack<T> (&s)[kPacks], int64_t row) const {
        const int64_t begin = row * op.columns;
        each_pack([&](int i, int pack) { s[i] = Pack<T>::load(op.x + begin + pack * kSize); });
        if (op.residual != nullptr) {
            Pack<T> residual[kPacks];
            each_pack([&](int i, int pack) {
                residual[i] = Pack<T>::load(op.residual + begin + pack * kSize);
            });
            each_pack([&](int i, int pack) {
#pragma unroll
                for (int j = 0; j < kSize; ++j) {
                    s[i].values[j] = added(s[i].values[j], residual[i].values[j]);
                }
                s[i].store_global(op.sum + begin + pack * kSize);
            });
        }
    }

    __device__ __forceinline__ void process(int64_t row, float* scratch) const {
        Pack<T> s[kPacks];
        load(s, row);
        float mean = 0.0F;
        if (op.bias != nullptr) {
            float total = 0.0F;
            each_pack([&](int i, int) {
#pragma unroll
                for (int j = 0; j < kSize; ++j) {
                    total += to_float(s[i].values[j]);
                }
            });
            mean = block_sum<kRowThreads>(total, scratch) / static_cast<float>(op.columns);
        }
        float squares = 0.0F;
        each_pack([&](int i, int) {
#pragma unroll
            for (int j = 0; j < kSize; ++j) {
                const float difference = to_float(s[i].values[j]) - mean;
                squares = fmaf(difference, difference, squares);
            }
        });
        squares = block_sum<kRowThreads>(squares, scratch);
        const float rstd = rstd_of(squares, op.columns, op.epsilon);
        each_pack([&](int i, int pack) {
            const Pack<T> w = weight[pack];
            Pack<T> b{};
            if (op.bias != nullptr) {
                b = bias[pack];
            }
            Pack<T> y;
#pragma unroll
            for (int j = 0; j < kSize; ++j) {
                y.values[j] =
                    normed(s[i].values[j], mean, rstd, w.values[j], to_float(b.values[j]));
            }
            y.store_global(op.y + row * op.columns + pack * kSize);
        });
        if (threadIdx.x % kRowThreads == 0) {
            op.rstd[row] = rstd;
            if (op.bias != nullptr) {
                op.mean[row] = mean;
            }
        }
    }
};

template <typename T, int kRowThreads, int kElements>
__global__ void __launch_bounds__(ResidentNorm<T, kRowThreads, kElements>::kBlockThreads)
    resident_norm_kernel(NormRows<T> op) {
    using Resident = ResidentNorm<T, kRowThreads, kElements>;
    extern __shared__ uint4 memory[];
    __shared__ float scratch[kRowThreads / kWarpSize];
    auto* weight = reinterpret_cast<T*>(memory);
    T* bias = weight + op.columns;
    // Element by element, as a parameter may start anywhere.
    for (int column = static_cast<int>(threadIdx.x); column < op.columns;
         column += Resident::kBlockThreads) {
        weight[column] = op.weight[column];
        if (op.bias != nullptr) {
            bias[column] = op.bias[column];
        }
    }
    __syncthreads();
    const Resident resident{op, reinterpret_cast<const Pack<T>*>(weight),
                            reinterpret_cast<const Pack<T>*>(bias)};
    constexpr int kGroups = Resident::kGroups;
    for (int64_t row = static_cast<int64_t>(blockIdx.x) * kGroups + threadIdx.x / kRowThreads;
         row < op.rows; row += static_cast<int64_t>(gridDim.x) * kGroups) {
        resident.process(row, scratch);
    }
}

/// Rows of any width, a block a row: read again, from the cache, for each of
/// the three passes. Each thread reads what it wrote itself.
template <typename T, bool kAligned>
__global__ void __launch_bounds__(kThreads) looped_norm_kernel(NormRows<T> op) {
    constexpr int kSize = Pack<T>::kSize;
    __shared__ float scratch[kThreads / kWarpSize];
    const int64_t row = static_cast<int64_t>(blockIdx.x) * op.columns;
    const auto each_pack = [&](auto&& function) {
        for (int64_t column = static_cast<int64_t>(threadIdx.x) * kSize; column < op.columns;
             column += kThreads * kSize) {
            function(column,
                     column + kSize <= op.columns ? kSize : static_cast<int>(op.columns - column));
        }
    };
    const T* s = op.residual != nullptr ? op.sum : op.x;
    float total = 0.0F;
    each_pack([&](int64_t column, int count) {
        Pack<T> pack = load_pack<kAligned>(op.x + row + column, count);
        if (op.residual != nullptr) {
            const Pack<T> residual = load_pack<kAligned>(op.residual + row + column, count);
#pragma unroll
            for (int j = 0; j < kSize; ++j) {
                pack.values[j] = added(pack.values[j], residual.values[j]);
            }
            store_pack<kAligned>(op.sum + row + column, count, pack);
        }
#pragma unroll
        for (int j = 0; j < kSize; ++j) {
            total += to_float(pack.values[j]);
        }
    });
    float mean = 0.0F;
    if (op.bias != nullptr) {
        mean = block_sum<kThreads>(total, scratch) / static_cast<float>(op.columns);
    }
    float squares = 0.0F;
    each_pack([&](int64_t column, int count) {
        const Pack<T> pack = load_pack<kAligned>(s + row + column, count);
#pragma unroll
        for (int j = 0; j < kSize; ++j) {
            const float difference = to_float(pack.values[j]) - mean;
            squares = j < count ? fmaf(difference, difference, squares) : squares;
        }
    });
    const float rstd = rstd_of(block_sum<kThreads>(squares, scratch), op.columns, op.epsilon);
    each_pack([&](int64_t column, int count) {
        Pack<T> pack = load_pack<kAligned>(s + row + column, count);
        const Pack<T> weight = load_pack<kAligned>(op.weight + column, count);
        Pack<T> bias{};
        if (op.bias != nullptr) {
            bias = load_pack<kAligned>(op.bias + column, count);
        }
#pragma unroll
        for (int j = 0; j < kSize; ++j) {
            pack.values[j] =
                normed(pack.values[j], mean, rstd, weight.values[j], to_float(bias.values[j]));
        }
        store_pack<kAligned>(op.y + row + column, count, pack);
    });
    if (threadIdx.x == 0) {
        op.rstd[blockIdx.x] = rstd;
        if (op.bias != nullptr) {
            op.mean[blockIdx.x] = mean;
        }
    }
}

template <typename T, int kRowThreads, int kElements>
void launch_resident(const NormRows<T>& rows, const DeviceProfile& device, cudaStream_t stream) {
    using Resident = ResidentNorm<T, kRowThreads, kElements>;
    // 1024 threads a multiprocessor; more blocks would read weight and bias more
    // often.
    const int64_t most = device.num_multiprocessors * (1024 / Resident::kBlockThreads);
    const int64_t blocks = std::min(divide_up(rows.rows, Resident::kGroups), most);
    launch("Norm", resident_norm_kernel<T, kRowThreads, kElements>,
           {.blocks = static_cast<unsigned>(blocks),
            .threads = Resident::kBlockThreads,
            .shared_bytes = 2 * rows.columns * static_cast<int64_t>(sizeof(T)),
            .stream = stream},
           rows);
}

template <typename T>
void issue(const NormRows<T>& rows, const DeviceProfile& device, cudaStream_t stream) {
    const bool aligned =
        rows.columns % Pack<T>::kSize == 0 && are_aligned(rows.x, rows.residual, rows.sum, rows.y);
    if (aligned && rows.columns <= kMaxResidentColumns) {
        const auto launch_it = rows.columns <= 1024   ? launch_resident<T, 32, 32>
                               : rows.columns <= 4096 ? launch_resident<T, 256, 16>
                                                      : launch_resident<T, 512, 16>;
        return launch_it(rows, device, stream);
    }
    launch("Norm",
           aligned && are_aligned(rows.weight, rows.bias) ? looped_norm_kernel<T, true>
                                                          : looped_norm_kernel<T, false>,
           {.blocks = static_cast<unsigned>(rows.rows), .threads = kThreads, .stream = stream},
           rows);
}

}  // namespace

void CudaBackend::execute(const Norm& op, Stream stream) {
    if (op.x.size() == 0) {
        return;
    }
    for_compute_type(op.x.dtype(), [&](auto type) {
        using T = decltype(type);
        const NormRows<T> rows = {
            .x = static_cast<const T*>(op.x.data()),
            .residual = static_cast<const T*>(op.residual.data()),
            .sum = static_cast<T*>(op.sum.data()),
            .weight = static_cast<const T*>(op.weight.data()),
            .bias = static_cast<const T*>(op.bias.data()),
            .y = static_cast<T*>(op.y.data()),
            .mean = static_cast<float*>(op.mean.data()),
            .rstd = static_cast<float*>(op.rstd.data()),
            .rows = op.x.rows(),
            .columns = op.x.columns(),
            .epsilon = op.epsilon,
        };
        issue(rows, profile_, this->stream(stream));
    });
}

}  // namespace lathe::cuda
