// LayerNorm and RMSNorm with the residual addition before them: a block a row, which it keeps in
// registers up to 16 packs a thread. Thread t owns packs t, t + 128, ... and adds them in order,
// whichever way the row is held or read: the bits do not depend on it.
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.h"

namespace lathe::cuda {
namespace {

constexpr int kThreads = 128;

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

/// Rows of whole, aligned packs, at most kPacks a thread.
template <typename T, int kPacks>
__global__ void __launch_bounds__(kThreads) resident_norm_kernel(NormRows<T> op) {
    constexpr int kSize = Pack<T>::kSize;
    __shared__ float scratch[kThreads / kWarpSize];
    const int64_t row = static_cast<int64_t>(blockIdx.x) * op.columns;
    const int packs = static_cast<int>(op.columns) / kSize;
    const auto each_pack = [&](auto&& function) {
#pragma unroll
        for (int i = 0; i < kPacks; ++i) {
            const int pack = i * kThreads + static_cast<int>(threadIdx.x);
            if (pack < packs) {
                function(i, pack * kSize);
            }
        }
    };
    Pack<T> s[kPacks];
    each_pack([&](int i, int column) { s[i] = Pack<T>::load(op.x + row + column); });
    if (op.residual != nullptr) {
        each_pack([&](int i, int column) {
            const Pack<T> residual = Pack<T>::load(op.residual + row + column);
#pragma unroll
            for (int j = 0; j < kSize; ++j) {
                s[i].values[j] = added(s[i].values[j], residual.values[j]);
            }
            s[i].store(op.sum + row + column);
        });
    }
    float mean = 0.0F;
    if (op.bias != nullptr) {
        float total = 0.0F;
        each_pack([&](int i, int) {
#pragma unroll
            for (int j = 0; j < kSize; ++j) {
                total += to_float(s[i].values[j]);
            }
        });
        mean = block_sum<kThreads>(total, scratch) / static_cast<float>(op.columns);
    }
    float squares = 0.0F;
    each_pack([&](int i, int) {
#pragma unroll
        for (int j = 0; j < kSize; ++j) {
            const float difference = to_float(s[i].values[j]) - mean;
            squares = fmaf(difference, difference, squares);
        }
    });
    const float rstd = rstd_of(block_sum<kThreads>(squares, scratch), op.columns, op.epsilon);
    each_pack([&](int i, int column) {
        const Pack<T> weight = Pack<T>::load(op.weight + column);
        Pack<T> bias{};
        if (op.bias != nullptr) {
            bias = Pack<T>::load(op.bias + column);
        }
        Pack<T> y;
#pragma unroll
        for (int j = 0; j < kSize; ++j) {
            y.values[j] =
                normed(s[i].values[j], mean, rstd, weight.values[j], to_float(bias.values[j]));
        }
        y.store(op.y + row + column);
    });
    if (threadIdx.x == 0) {
        op.rstd[blockIdx.x] = rstd;
        if (op.bias != nullptr) {
            op.mean[blockIdx.x] = mean;
        }
    }
}

/// Rows of any width: read again, from the cache, for each of the three passes. Each thread reads
/// what it wrote itself.
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

template <typename T>
auto kernel_for(const NormRows<T>& rows) -> void (*)(NormRows<T>) {
    constexpr int64_t kColumnsPerPack = int64_t{kThreads} * Pack<T>::kSize;
    const bool aligned =
        rows.columns % Pack<T>::kSize == 0 &&
        are_aligned(rows.x, rows.residual, rows.sum, rows.weight, rows.bias, rows.y);
    if (!aligned) {
        return looped_norm_kernel<T, false>;
    }
    return rows.columns <= 2 * kColumnsPerPack    ? resident_norm_kernel<T, 2>
           : rows.columns <= 8 * kColumnsPerPack  ? resident_norm_kernel<T, 8>
           : rows.columns <= 16 * kColumnsPerPack ? resident_norm_kernel<T, 16>
                                                  : looped_norm_kernel<T, true>;
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
            .columns = op.x.columns(),
            .epsilon = op.epsilon,
        };
        launch("Norm", kernel_for(rows),
               {.blocks = static_cast<unsigned>(op.x.rows()),
                .threads = kThreads,
                .stream = this->stream(stream)},
               rows);
    });
}

}  // namespace lathe::cuda
