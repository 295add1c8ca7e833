// Gradient of LayerNorm and RMSNorm. With x^ = (x - mean) rstd and g = d_y
// weight:
//   d_x = rstd (g - mean(g) - x^ mean(g x^)) + d_residual,
//   d_weight = sum of d_y x^, d_bias = sum of d_y over rows; RMSNorm has mean =
//   mean(g) = 0.
// One pass reads everything once: a block walks a chunk of rows, a warp or the
// block a row, and keeps its columns' sums in registers. Rows too wide for that
// take the sums and d_x separately.
#include "kernels/cuda/column_shapes.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.h"

namespace lathe::cuda {
namespace {

template <typename T>
struct Rows {
    const T* d_y;
    const T* x;
    const T* weight;
    const float* mean;  ///< layernorm only
    const float* rstd;
    const T* d_residual;  ///< may be null
    T* d_x;
    int64_t rows;
    int64_t columns;
};

/// What a row adds up: g and g x^; later their means.
struct RowSums {
    float g = 0.0F;
    float g_normed = 0.0F;
};

/// The means of a row held by kRowThreads threads: a warp of its own, or the
/// whole block. Where blocks call this in a loop, `scratch` alternates between
/// two, so that one barrier is enough.
template <int kRowThreads>
__device__ __forceinline__ RowSums row_means(RowSums sums, float2* scratch, bool centred,
                                             int64_t columns) {
    sums = {warp_sum(sums.g), warp_sum(sums.g_normed)};
    if constexpr (kRowThreads > kWarpSize) {
        if (threadIdx.x % kWarpSize == 0) {
            scratch[threadIdx.x / kWarpSize] = make_float2(sums.g, sums.g_normed);
        }
        __syncthreads();
        sums = {};
#pragma unroll
        for (int warp = 0; warp < kRowThreads / kWarpSize; ++warp) {
            sums.g += scratch[warp].x;
            sums.g_normed += scratch[warp].y;
        }
    }
    const auto count = static_cast<float>(columns);
    return {centred ? sums.g / count : 0.0F, sums.g_normed / count};
}

__device__ __forceinline__ float d_x_of(float g, float normed, const RowSums& means, float rstd) {
    return rstd * (g - means.g - normed * means.g_normed);
}

/// One row's packs in a thread's registers.
template <typename T, int kPacks>
struct HeldRow {
    Pack<T> d_y[kPacks];
    Pack<T> x[kPacks];
    float mean = 0.0F;
    float rstd = 0.0F;
};

/// kRowThreads threads hold a row, kElements columns each: packs t, t +
/// kRowThreads, ... Chunk blockIdx.x of rows; with a warp a row, the block's
/// warps take rows in turn.
template <typename T, int kRowThreads, int kElements>
struct ResidentRows {
    static constexpr int kSize = Pack<T>::kSize;
    static constexpr int kPacks = kElements / kSize;
    static constexpr int kThreads = kRowThreads == kWarpSize ? 256 : kRowThreads;
    static constexpr int kGroups = kThreads / kRowThreads;
    using Held = HeldRow<T, kPacks>;

    const Rows<T>& op;
    float weight[kElements];
    float d_weight[kElements];
    float d_bias[kElements];
    /// Of 32 of this warp's rows, one a lane: a sector serves several.
    float mean_of_lane = 0.0F;
    float rstd_of_lane = 0.0F;

    __device__ __forceinline__ static int thread() {
        return static_cast<int>(threadIdx.x) % kRowThreads;
    }
    __device__ __forceinline__ int num_packs() const {
        return static_cast<int>(op.columns) / kSize;
    }
    /// Calls function(index of the pack here, in the row) for each that this
    /// thread owns.
    template <typename Function>
    __device__ __forceinline__ void each_pack(Function&& function) const {
#pragma unroll
        for (int i = 0; i < kPacks; ++i) {
            const int pack = i * kRowThreads + thread();
            if (pack < num_packs()) {
                function(i, pack);
            }
        }
    }

    /// `memory` has room for a whole row: each weight is read once, element by
    /// element, as a parameter may start anywhere, then by packs.
    __device__ __forceinline__ ResidentRows(const Rows<T>& rows, float* memory)
        : op(rows), weight{}, d_weight{}, d_bias{} {
        T* shared = reinterpret_cast<T*>(memory);
        for (int column = static_cast<int>(threadIdx.x); column < op.columns; column += kThreads) {
            shared[column] = op.weight[column];
        }
        __syncthreads();
        each_pack([&](int i, int pack) {
            const Pack<T> loaded = Pack<T>::load(shared + pack * kSize);
#pragma unroll
            for (int j = 0; j < kSize; ++j) {
                weight[i * kSize + j] = to_float(loaded.values[j]);
            }
        });
        __syncthreads();
    }

    /// The row of this round; rounds begin with 0 and none is left out.
    __device__ __forceinline__ void load(Held& held, int round, int64_t row, int64_t end) {
        const int64_t begin = row * op.columns;
        each_pack([&](int i, int pack) {
            held.d_y[i] = Pack<T>::load(op.d_y + begin + pack * kSize);
            held.x[i] = Pack<T>::load(op.x + begin + pack * kSize);
        });
        if (round % kWarpSize == 0) {
            const int64_t mine = row + static_cast<int>(threadIdx.x) % kWarpSize * kGroups;
            if (mine < end) {
                mean_of_lane = op.mean != nullptr ? op.mean[mine] : 0.0F;
                rstd_of_lane = op.rstd[mine];
            }
        }
        held.mean = __shfl_sync(kFullWarp, mean_of_lane, round % kWarpSize);
        held.rstd = __shfl_sync(kFullWarp, rstd_of_lane, round % kWarpSize);
    }

    __device__ __forceinline__ void process(const Held& held, int64_t row, float2* scratch) {
        RowSums sums;
        each_pack([&](int i, int) {
#pragma unroll
            for (int j = 0; j < kSize; ++j) {
                const int column = i * kSize + j;
                const float d_y = to_float(held.d_y[i].values[j]);
                const float normed = (to_float(held.x[i].values[j]) - held.mean) * held.rstd;
                const float g = d_y * weight[column];
                sums.g += g;
                sums.g_normed = fmaf(g, normed, sums.g_normed);
                d_weight[column] = fmaf(d_y, normed, d_weight[column]);
                d_bias[column] += d_y;
            }
        });
        const RowSums means = row_means<kRowThreads>(sums, scratch, op.mean != nullptr, op.columns);
        each_pack([&](int i, int pack) {
            const int64_t at = row * op.columns + pack * kSize;
            Pack<T> residual{};
            if (op.d_residual != nullptr) {
                residual = Pack<T>::load(op.d_residual + at);
            }
            Pack<T> d_x;
#pragma unroll
            for (int j = 0; j < kSize; ++j) {
                const float normed = (to_float(held.x[i].values[j]) - held.mean) * held.rstd;
                const float g = to_float(held.d_y[i].values[j]) * weight[i * kSize + j];
                d_x.values[j] = from_float<T>(d_x_of(g, normed, means, held.rstd) +
                                              to_float(residual.values[j]));
            }
            d_x.store_global(op.d_x + at);
        });
    }

    /// This block's partial sums: those of its warps added in order, if they took
    /// rows in turn.
    __device__ __forceinline__ void store_sums(const float (&sums)[kElements], float* partial,
                                               float* shared) const {
        const auto slot = [&](int pack, int j) { return j * num_packs() + pack; };
        if constexpr (kGroups == 1) {
            each_pack([&](int i, int pack) {
#pragma unroll
                for (int j = 0; j < kSize; ++j) {
                    partial[slot(pack, j)] = sums[i * kSize + j];
                }
            });
        } else {
            constexpr int kWidth = kRowThreads * kElements;
            const int group = static_cast<int>(threadIdx.x) / kRowThreads;
            __syncthreads();  // what the round before left is read
            each_pack([&](int i, int pack) {
#pragma unroll
                for (int j = 0; j < kSize; ++j) {
                    shared[group * kWidth + slot(pack, j)] = sums[i * kSize + j];
                }
            });
            __syncthreads();
            for (int i = static_cast<int>(threadIdx.x); i < op.columns; i += kThreads) {
                float total = shared[i];
#pragma unroll
                for (int other = 1; other < kGroups; ++other) {
                    total += shared[other * kWidth + i];
                }
                partial[i] = total;
            }
        }
    }
};

template <typename T, int kRowThreads, int kElements>
__global__ void __launch_bounds__(ResidentRows<T, kRowThreads, kElements>::kThreads)
    resident_kernel(Rows<T> op, Partials partials) {
    using Resident = ResidentRows<T, kRowThreads, kElements>;
    constexpr int kGroups = Resident::kGroups;
    // Two rows of f32 take more registers than there are.
    constexpr bool kPrefetches = sizeof(T) == 2;
    // The weights; then a row's sums by warp, twice; or, at the end, the warps'
    // sums of columns.
    __shared__ __align__(16) float shared[kGroups * kRowThreads * kElements];
    Resident rows(op, shared);
    const int64_t chunk = blockIdx.x;
    const int64_t end = (chunk + 1) * op.rows / partials.chunks;
    int64_t row = chunk * op.rows / partials.chunks + threadIdx.x / kRowThreads;
    typename Resident::Held held;
    if (row < end) {
        rows.load(held, 0, row, end);
    }
    for (int round = 0; row < end; ++round, row += kGroups) {
        const int64_t following = row + kGroups;
        auto* scratch = reinterpret_cast<float2*>(shared) + round % 2 * (kRowThreads / kWarpSize);
        if constexpr (kPrefetches) {
            typename Resident::Held next;
            if (following < end) {
                rows.load(next, round + 1, following,
                          end);  // under way while this row is worked on
            }
            rows.process(held, row, scratch);
            held = next;
        } else {
            rows.process(held, row, scratch);
            if (following < end) {
                rows.load(held, round + 1, following, end);
            }
        }
    }
    float* partial = partials.data + chunk * partials.stride;
    if (op.mean != nullptr) {
        rows.store_sums(rows.d_bias, partial, shared);
    }
    rows.store_sums(rows.d_weight, partial + partials.chunks * partials.stride, shared);
}

constexpr int kWideThreads = 256;

/// d_x of rows of any width, a block a row, which is read twice.
template <typename T, bool kAligned>
__global__ void __launch_bounds__(kWideThreads) wide_kernel(Rows<T> op) {
    constexpr int kSize = Pack<T>::kSize;
    __shared__ float2 scratch[kWideThreads / kWarpSize];
    const int64_t row = blockIdx.x;
    const float mean = op.mean != nullptr ? op.mean[row] : 0.0F;
    const float rstd = op.rstd[row];
    // Calls function(column, elements, d_y, g, x^) for each of this thread's
    // packs.
    const auto each_pack = [&](auto&& function) {
        for (int64_t column = static_cast<int64_t>(threadIdx.x) * kSize; column < op.columns;
             column += kWideThreads * kSize) {
            const int64_t left = op.columns - column;
            const int count = left < kSize ? static_cast<int>(left) : kSize;
            const int64_t at = row * op.columns + column;
            const Pack<T> d_y = load_pack<kAligned>(op.d_y + at, count);
            const Pack<T> x = load_pack<kAligned>(op.x + at, count);
            const Pack<T> weight = load_pack<kAligned>(op.weight + column, count);
            float g[kSize];
            float normed[kSize];
#pragma unroll
            for (int j = 0; j < kSize; ++j) {
                g[j] = to_float(d_y.values[j]) * to_float(weight.values[j]);
                normed[j] = (to_float(x.values[j]) - mean) * rstd;
            }
            function(at, count, g, normed);
        }
    };
    RowSums sums;
    each_pack([&](int64_t, int, const float(&g)[kSize], const float(&normed)[kSize]) {
#pragma unroll
        for (int j = 0; j < kSize; ++j) {  // g is 0 past the row's end
            sums.g += g[j];
            sums.g_normed = fmaf(g[j], normed[j], sums.g_normed);
        }
    });
    const RowSums means = row_means<kWideThreads>(sums, scratch, op.mean != nullptr, op.columns);
    each_pack([&](int64_t at, int count, const float(&g)[kSize], const float(&normed)[kSize]) {
        Pack<T> residual{};
        if (op.d_residual != nullptr) {
            residual = load_pack<kAligned>(op.d_residual + at, count);
        }
        Pack<T> d_x;
#pragma unroll
        for (int j = 0; j < kSize; ++j) {
            d_x.values[j] =
                from_float<T>(d_x_of(g[j], normed[j], means, rstd) + to_float(residual.values[j]));
        }
        store_pack<kAligned>(op.d_x + at, count, d_x);
    });
}

template <typename T, int kRowThreads, int kElements>
void launch_resident(const Rows<T>& rows, const Partials& partials, cudaStream_t stream) {
    launch("NormBackward", resident_kernel<T, kRowThreads, kElements>,
           {.blocks = static_cast<unsigned>(partials.chunks),
            .threads = ResidentRows<T, kRowThreads, kElements>::kThreads,
            .stream = stream},
           rows, partials);
}

/// All of the operation but the sum over chunks; returns where the partial sums
/// are.
template <typename T>
Partials issue(const Rows<T>& rows, float* workspace, const DeviceProfile& device,
               cudaStream_t stream) {
    const bool aligned = rows.columns % Pack<T>::kSize == 0 &&
                         are_aligned(rows.d_y, rows.x, rows.d_residual, rows.d_x);
    Partials partials = {.data = workspace,
                         .chunks = num_norm_chunks(rows.rows, device),
                         .stride = partial_columns(dtype_of<T>, rows.columns)};
    if (aligned && rows.columns <= kMaxResidentColumns) {
        const auto launch_it = rows.columns <= 1024   ? launch_resident<T, 32, 32>
                               : rows.columns <= 4096 ? launch_resident<T, 256, 16>
                                                      : launch_resident<T, 512, 16>;
        launch_it(rows, partials, stream);
        return partials;
    }
    partials.chunks = num_column_chunks(dtype_of<T>, rows.rows, rows.columns, device);
    const SummedRows<T> summed = {.d_y = rows.d_y,
                                  .x = rows.x,
                                  .mean = rows.mean,
                                  .rstd = rows.rstd,
                                  .rows = rows.rows,
                                  .columns = rows.columns};
    sum_row_chunks("NormBackward", summed, partials,
                   stream);  // before d_x takes d_y's place
    launch("NormBackward",
           aligned && are_aligned(rows.weight) ? wide_kernel<T, true> : wide_kernel<T, false>,
           {.blocks = static_cast<unsigned>(rows.rows), .threads = kWideThreads, .stream = stream},
           rows);
    return partials;
}

}  // namespace

void CudaBackend::execute(const NormBackward& op, Stream stream) {
    if (op.x.size() == 0) {
        execute_fill_zero(op.d_weight, stream);
        if (op.d_bias) {
            execute_fill_zero(op.d_bias, stream);
        }
        return;
    }
    for_compute_type(op.x.dtype(), [&](auto type) {
        using T = decltype(type);
        const Rows<T> rows = {
            .d_y = static_cast<const T*>(op.d_y.data()),
            .x = static_cast<const T*>(op.x.data()),
            .weight = static_cast<const T*>(op.weight.data()),
            .mean = static_cast<const float*>(op.mean.data()),
            .rstd = op.rstd.as<float>(),
            .d_residual = static_cast<const T*>(op.d_residual.data()),
            .d_x = static_cast<T*>(op.d_x.data()),
            .rows = op.x.rows(),
            .columns = op.x.columns(),
        };
        const Partials partials =
            issue(rows, static_cast<float*>(op.workspace.data()), profile_, this->stream(stream));
        sum_partials("NormBackward", partials, Pack<T>::kSize, rows.columns,
                     static_cast<float*>(op.d_bias.data()), op.d_weight.as<float>(),
                     this->stream(stream));
    });
}

}  // namespace lathe::cuda
