// Ordered sums of gradients, and squared norms of chunks.
#include <algorithm>

#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/flat.h"

namespace lathe::cuda {
namespace {

/// Contributions that one launch adds: as many as keep the extra readings and writings of the sum
/// below 5% where there are more.
constexpr int kMaxContributions = 64;
/// Contributions that a lane loads before it adds the first of them.
constexpr int kLoadedAtOnce = 4;

struct Contributions {
    const void* data[kMaxContributions];
    int count;
    bool assign;
};

template <typename T, bool kAligned>
__device__ __forceinline__ void accumulate_span(float* sum, const Contributions& from,
                                                int64_t begin, int64_t count) {
    Span total{};
    if (!from.assign) {
        total = load_span<float, kAligned>(sum + begin, count);
    }
    for (int first = 0; first < from.count; first += kLoadedAtOnce) {
        decltype(load_raw<T, kAligned>(nullptr, 0)) loaded[kLoadedAtOnce];
#pragma unroll
        for (int i = 0; i < kLoadedAtOnce; ++i) {
            if (first + i < from.count) {
                const auto* data = static_cast<const T*>(from.data[first + i]);
                loaded[i] = load_raw<T, kAligned>(data + begin, count);
            }
        }
#pragma unroll
        for (int i = 0; i < kLoadedAtOnce; ++i) {
            if (first + i < from.count) {
                const Span term = to_span(loaded[i]);
                const bool assigned = from.assign && first + i == 0;  // so that -0 stays -0
#pragma unroll
                for (int j = 0; j < 8; ++j) {
                    total.values[j] = assigned ? term.values[j] : total.values[j] + term.values[j];
                }
            }
        }
    }
    store_span<float, kAligned>(sum + begin, count, total);
}

template <typename T>
__global__ void __launch_bounds__(kFlatThreads)
    accumulate_kernel(float* sum, Contributions from, int64_t n, bool aligned) {
    for_each_span(n, aligned, [&](auto is_aligned, int64_t begin, int64_t count) {
        accumulate_span<T, decltype(is_aligned)::value>(sum, from, begin, count);
    });
}

constexpr int kNormThreads = 256;

/// A block a chunk: each thread adds its packs in order, then the block its threads.
__global__ void __launch_bounds__(kNormThreads)
    squared_norm_kernel(const float* x, double* partial, int64_t n, bool aligned) {
    constexpr int kSize = Pack<float>::kSize;
    constexpr int kPacks = static_cast<int>(kChunkElements) / kNormThreads / kSize;
    __shared__ double scratch[kNormThreads / kWarpSize];
    const int64_t chunk = static_cast<int64_t>(blockIdx.x) * kChunkElements;
    Pack<float> packs[kPacks] = {};
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
        const int64_t begin = chunk + (i * kNormThreads + static_cast<int>(threadIdx.x)) * kSize;
        if (aligned && begin + kSize <= n) {
            packs[i] = Pack<float>::load(x + begin);
        } else {
#pragma unroll
            for (int j = 0; j < kSize; ++j) {
                packs[i].values[j] = begin + j < n ? x[begin + j] : 0.0F;
            }
        }
    }
    double sum = 0;
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
#pragma unroll
        for (int j = 0; j < kSize; ++j) {
            const auto value = static_cast<double>(packs[i].values[j]);
            sum = fma(value, value, sum);
        }
    }
    sum = block_sum<kNormThreads>(sum, scratch);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
    }
}

/// The contributions from `first` on that one launch takes: of one type.
Contributions batch_of(const Accumulate& op, size_t first) {
    Contributions batch{};
    batch.assign = op.assign && first == 0;
    for (size_t i = first; i < op.contributions.size() && batch.count < kMaxContributions &&
                           op.contributions[i].dtype() == op.contributions[first].dtype();
         ++i) {
        batch.data[batch.count++] = op.contributions[i].data();
    }
    return batch;
}

}  // namespace

void CudaBackend::execute(const Accumulate& op, Stream stream) {
    auto* sum = op.sum.as<float>();
    for (size_t first = 0; first < op.contributions.size();) {
        const Contributions batch = batch_of(op, first);
        const bool aligned =
            are_aligned(sum) && std::all_of(batch.data, batch.data + batch.count,
                                            [](const void* data) { return are_aligned(data); });
        for_compute_type(op.contributions[first].dtype(), [&](auto type) {
            launch_flat("Accumulate", accumulate_kernel<decltype(type)>, op.sum.size(),
                        this->stream(stream), sum, batch, op.sum.size(), aligned);
        });
        first += static_cast<size_t>(batch.count);
    }
}

void CudaBackend::execute(const SquaredNorm& op, Stream stream) {
    const auto* x = op.x.as<float>();
    if (op.partial.size() > 0) {
        launch("SquaredNorm", squared_norm_kernel,
               {.blocks = static_cast<unsigned>(op.partial.size()),
                .threads = kNormThreads,
                .stream = this->stream(stream)},
               x, op.partial.as<double>(), op.x.size(), are_aligned(x));
    }
}

}  // namespace lathe::cuda
