// Softmax cross-entropy with its gradient: a block a row. The first pass over a row finds maximum
// and sum together (online softmax, Milakov & Gimelshein, arXiv 1805.02867), the second writes the
// gradient. In between the row stays on the multiprocessor: its first spans in registers, more in
// shared memory; only what exceeds both is read a second time.
#include <algorithm>
#include <limits>

#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/span.h"

namespace lathe::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarpSize;
/// Columns that the block's warps take at once, a span each.
constexpr int kBlockColumns = kWarps * Span::kColumns;
constexpr float kLog2E = 1.44269504088896341F;
constexpr float kLn2 = 0.69314718055994531F;
constexpr float kLowest = std::numeric_limits<float>::lowest();

/// Spans of a row that a warp keeps in registers: 56 registers a lane, of 128.
template <typename L>
constexpr int kHeld = 28 / static_cast<int>(sizeof(L));

template <typename L, typename G>
struct LossRows {
    const L* logits;
    const int32_t* targets;
    float* losses;
    G* d_logits;  ///< may be null, may be logits
    int64_t columns;
    int64_t vocabulary;
    float scale;
    int shared_spans;  ///< of a row that a warp keeps in shared memory
};

/// sum of exp(x - maximum) over what was seen.
struct Softmax {
    float maximum = kLowest;
    float sum = 0.0F;

    __device__ __forceinline__ static float power(float x, float maximum) {
        return exp2f((x - maximum) * kLog2E);
    }
    __device__ __forceinline__ void raise(float to) {
        const float higher = fmaxf(maximum, to);
        sum *= power(maximum, higher);
        maximum = higher;
    }
    /// Values whose column is below `count`.
    __device__ __forceinline__ void add(const Span& span, int64_t count) {
        float largest = kLowest;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            largest = Span::column(i) < count ? fmaxf(largest, span.values[i]) : largest;
        }
        raise(largest);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            sum += Span::column(i) < count ? power(span.values[i], maximum) : 0.0F;
        }
    }
    /// The block's, in every thread.
    __device__ __forceinline__ Softmax of_block(float2* scratch) {
        raise(warp_max(maximum));
        sum = warp_sum(sum);
        if (Span::lane() == 0) {
            scratch[threadIdx.x / kWarpSize] = make_float2(maximum, sum);
        }
        __syncthreads();
        Softmax all;
        if (Span::lane() < kWarps) {
            all.maximum = scratch[Span::lane()].x;
            all.sum = scratch[Span::lane()].y;
        }
        all.raise(warp_max(all.maximum));
        all.sum = warp_sum(all.sum);
        return all;
    }
};
static_assert(kWarps <= kWarpSize);

/// This warp's spans of a row: of_warp(i) begins at column i * kBlockColumns + warp * 256.
template <typename L>
struct HeldRow {
    const L* row;
    int64_t columns;
    int shared_spans;
    RawSpan<L> held[kHeld<L>];

    __device__ __forceinline__ static int64_t column(int i) {
        return static_cast<int64_t>(i) * kBlockColumns + threadIdx.x / kWarpSize * Span::kColumns;
    }
    __device__ __forceinline__ int64_t left(int i) const { return columns - column(i); }

    /// This lane's packs of the i-th span in shared memory: those of all lanes side by side.
    __device__ __forceinline__ static Pack<L>* shared(int i, int pack) {
        extern __shared__ uint4 memory[];
        return reinterpret_cast<Pack<L>*>(memory) + (i * RawSpan<L>::kPacks + pack) * kThreads +
               threadIdx.x;
    }

    /// Starts to load all that is kept.
    __device__ __forceinline__ void load() {
#pragma unroll
        for (int i = 0; i < kHeld<L>; ++i) {
            if (left(i) > 0) {
                held[i] = load_raw<L, true>(row + column(i), left(i));
            }
        }
        for (int i = 0; i < shared_spans; ++i) {
            const int64_t begin = column(kHeld<L> + i);
#pragma unroll
            for (int pack = 0; pack < RawSpan<L>::kPacks; ++pack) {
                const int64_t at = begin + RawSpan<L>::column(pack);
                if (at < columns) {
                    ptx::copy_async_16(ptx::shared_address(shared(i, pack)), row + at, true);
                }
            }
        }
        ptx::commit_copies();
    }
    /// The span kHeld + i: kept in shared memory, or read again.
    __device__ __forceinline__ Span past_registers(int i) const {
        if (i >= shared_spans) {
            return load_span<L, true>(row + column(kHeld<L> + i), left(kHeld<L> + i));
        }
        RawSpan<L> raw{};
#pragma unroll
        for (int pack = 0; pack < RawSpan<L>::kPacks; ++pack) {
            if (RawSpan<L>::column(pack) < left(kHeld<L> + i)) {
                raw.packs[pack] = *shared(i, pack);
            }
        }
        return to_span(raw);
    }
    /// Calls function(span, its first column) for each.
    template <typename Function>
    __device__ __forceinline__ void each(Function&& function) const {
#pragma unroll
        for (int i = 0; i < kHeld<L>; ++i) {
            if (left(i) > 0) {
                function(to_span(held[i]), column(i));
            }
        }
        ptx::wait_copies<0>();
#pragma unroll 1  // registers are what is short
        for (int i = 0; left(kHeld<L> + i) > 0; ++i) {
            function(past_registers(i), column(kHeld<L> + i));
        }
    }
};

/// The same of rows that are not of whole packs at addresses of 16 bytes: read twice.
template <typename L>
struct StreamedRow {
    const L* row;
    int64_t columns;

    __device__ __forceinline__ void load() {}
    template <typename Function>
    __device__ __forceinline__ void each(Function&& function) const {
        for (int64_t begin = HeldRow<L>::column(0); begin < columns; begin += kBlockColumns) {
            function(load_span<L, false>(row + begin, columns - begin), begin);
        }
    }
};

template <typename L, typename G, bool kAligned>
__global__ void __launch_bounds__(kThreads, 1) cross_entropy_kernel(LossRows<L, G> op) {
    __shared__ float2 scratch[kWarps];
    const int64_t n = blockIdx.x;
    const int32_t target = op.targets[n];
    G* gradient = op.d_logits == nullptr ? nullptr : op.d_logits + n * op.columns;
    if (target < 0) {
        if (threadIdx.x == 0) {
            op.losses[n] = 0.0F;
        }
        for (int64_t begin = HeldRow<L>::column(0); gradient != nullptr && begin < op.columns;
             begin += kBlockColumns) {
            store_span<G, kAligned>(gradient + begin, op.columns - begin, {});
        }
        return;
    }
    const L* logits = op.logits + n * op.columns;
    const auto row = [&] {
        if constexpr (kAligned) {
            HeldRow<L> held{logits, op.columns, op.shared_spans, {}};
            held.load();
            return held;
        } else {
            return StreamedRow<L>{logits, op.columns};
        }
    }();
    // Before the gradient may take its place; so, before the barrier in of_block.
    const float at_target = to_float(logits[target]);
    Softmax softmax;
    row.each([&](const Span& span, int64_t begin) { softmax.add(span, op.vocabulary - begin); });
    softmax = softmax.of_block(scratch);
    // log p of the target
    const float log_p = at_target - softmax.maximum - kLn2 * log2f(softmax.sum);
    if (threadIdx.x == 0) {
        op.losses[n] = -log_p;
    }
    if (gradient == nullptr) {
        return;
    }
    const float factor = op.scale / softmax.sum;
    const float d_target = op.scale * expm1f(log_p);  // p - 1 keeps its digits
    row.each([&](Span span, int64_t begin) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int64_t column = begin + Span::column(i);
            const float p = factor * Softmax::power(span.values[i], softmax.maximum);
            span.values[i] = column < op.vocabulary ? p : 0.0F;
            if (column == target) {
                span.values[i] = d_target;
            }
        }
        store_span<G, kAligned>(gradient + begin, op.columns - begin, span);
    });
}

template <typename L, typename G>
void issue(const CrossEntropy& op, const DeviceProfile& device, cudaStream_t stream) {
    LossRows<L, G> rows = {.logits = static_cast<const L*>(op.logits.data()),
                           .targets = op.targets.as<int32_t>(),
                           .losses = op.losses.as<float>(),
                           .d_logits = static_cast<G*>(op.d_logits.data()),
                           .columns = op.logits.columns(),
                           .vocabulary = op.vocabulary,
                           .scale = op.scale,
                           .shared_spans = 0};
    const bool aligned = rows.columns % Pack<L>::kSize == 0 && rows.columns % Pack<G>::kSize == 0 &&
                         are_aligned(rows.logits, rows.d_logits);
    constexpr int64_t kSpanBytes = int64_t{kBlockColumns} * sizeof(L);
    constexpr int64_t kStaticBytes = sizeof(float2) * kWarps;
    if (aligned && rows.d_logits != nullptr) {
        const int64_t spans = divide_up(rows.columns, kBlockColumns) - kHeld<L>;
        const int64_t room = (device.shared_memory_per_block - kStaticBytes) / kSpanBytes;
        rows.shared_spans = static_cast<int>(std::clamp<int64_t>(spans, 0, room));
    }
    launch("CrossEntropy",
           aligned ? cross_entropy_kernel<L, G, true> : cross_entropy_kernel<L, G, false>,
           {.blocks = static_cast<unsigned>(op.logits.rows()),
            .threads = kThreads,
            .shared_bytes = rows.shared_spans * kSpanBytes,
            .stream = stream},
           rows);
}

}  // namespace

void CudaBackend::execute(const CrossEntropy& op, Stream stream) {
    if (op.logits.rows() == 0) {
        return;
    }
    for_compute_type(op.logits.dtype(), [&](auto type) {
        using L = decltype(type);
        if (op.d_logits && op.d_logits.dtype() == DType::bf16) {
            issue<L, Bf16>(op, profile_, this->stream(stream));
        } else {
            issue<L, L>(op, profile_, this->stream(stream));
        }
    });
}

}  // namespace lathe::cuda
