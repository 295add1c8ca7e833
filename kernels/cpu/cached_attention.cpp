// CachedAttention: bound by reading the caches. A unit takes kPositions positions of one key/value
// head for all query heads of its group; the units' partial softmaxes are then merged in order.
#include "kernels/cpu/cpu_backend_impl.h"
#include "kernels/cpu/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cached_attention.cpp"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/math-inl.h"

namespace lathe::cpu {

#ifndef LATHE_CACHED_ATTENTION_PARTS
#define LATHE_CACHED_ATTENTION_PARTS
inline constexpr int64_t kPositions = 512;
/// A partial result: D sums of values, the maximum, the sum of exponentials.
inline constexpr int64_t kStatistics = 2;
#endif

}  // namespace lathe::cpu

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

/// Stores keys and values of row (b, i) of qkv in the caches.
template <typename T>
void store_row(const CachedAttention& op, int64_t b, int64_t i) {
    const AttentionHeads& h = op.heads;
    const int64_t d = h.head_size;
    const int64_t capacity = op.key_cache.shape()[2];
    const T* row = data_of<T>(op.qkv) + (b * op.qkv.shape()[1] + i) * h.qkv_columns();
    const T* keys = row + h.heads * d;
    const T* values = keys + h.kv_heads * d;
    for (int64_t head = 0; head < h.kv_heads; ++head) {
        const int64_t to = ((b * h.kv_heads + head) * capacity + op.first_position + i) * d;
        const auto bytes = static_cast<size_t>(d) * sizeof(T);
        std::memcpy(static_cast<void*>(data_of<T>(op.key_cache) + to), keys + head * d, bytes);
        std::memcpy(static_cast<void*>(data_of<T>(op.value_cache) + to), values + head * d, bytes);
    }
}

void store_rows_kernel(const CachedAttention& op, int64_t begin, int64_t end) {
    with_type(op.qkv.dtype(), [&](auto type) {
        const int64_t count = op.qkv.shape()[1];
        for (int64_t n = begin; n < end; ++n) {
            store_row<decltype(type)>(op, n / count, n % count);
        }
    });
}

/// One query against `count` keys and values: partial = (sums of values, maximum, sum).
template <typename T>
void attend(const T* query, const T* keys, const T* values, int64_t count, int64_t d, float scale,
            float slope, int64_t distance, float* partial) {
    HWY_ALIGN float scores[kPositions];
    float maximum = -std::numeric_limits<float>::infinity();
    for (int64_t j = 0; j < count; ++j) {
        const float dot = sum_over(d, [&](int64_t i, auto lanes) {
            return hn::Mul(load(query + i, lanes), load(keys + j * d + i, lanes));
        });
        scores[j] = dot * scale + slope * static_cast<float>(distance + j);
        maximum = std::max(maximum, scores[j]);
    }
    const VF shift = set(maximum);
    const float sum = sum_over(count, [&](int64_t i, auto lanes) {
        const VF p = exp(hn::Sub(load(scores + i, lanes), shift));
        store(p, scores + i, lanes);
        return keep(p, lanes);
    });
    std::fill_n(partial, d, 0.0F);
    for (int64_t j = 0; j < count; ++j) {
        const VF p = set(scores[j]);
        walk(d, [&](int64_t i, auto lanes) {
            store(hn::MulAdd(p, load(values + j * d + i, lanes), load(partial + i, lanes)),
                  partial + i, lanes);
        });
    }
    partial[d] = maximum;
    partial[d + 1] = sum;
}

/// Positions [begin, ...) of one chunk for key/value head `kv` of sequence `b`; partials are
/// [B, S, H, chunks][D + 2].
void chunk_kernel(const CachedAttention& op, int64_t b, int64_t kv, int64_t chunk,
                  int64_t num_chunks, float* partials) {
    const AttentionHeads& h = op.heads;
    const int64_t d = h.head_size;
    const int64_t count = op.qkv.shape()[1];
    const int64_t capacity = op.key_cache.shape()[2];
    const int64_t group = h.heads / h.kv_heads;
    const int64_t begin = chunk * kPositions;
    const float scale = 1.0F / std::sqrt(static_cast<float>(d));
    with_type(op.qkv.dtype(), [&](auto type) {
        using T = decltype(type);
        const int64_t cached = ((b * h.kv_heads + kv) * capacity + begin) * d;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t position = op.first_position + i;
            const int64_t visible = std::min(kPositions, position + 1 - begin);
            if (visible <= 0) {
                continue;
            }
            const T* row = data_of<T>(op.qkv) + (b * count + i) * h.qkv_columns();
            for (int64_t head = kv * group; head < (kv + 1) * group; ++head) {
                const float slope = op.slopes ? data_of<float>(op.slopes)[head] : 0.0F;
                float* partial =
                    partials +
                    (((b * count + i) * h.heads + head) * num_chunks + chunk) * (d + kStatistics);
                attend(row + head * d, data_of<T>(op.key_cache) + cached,
                       data_of<T>(op.value_cache) + cached, visible, d, scale, slope,
                       begin - position, partial);
            }
        }
    });
}

/// y of (b, i, head) number `n` from its chunks' partial results, in order.
template <typename T>
void merge(const CachedAttention& op, int64_t n, int64_t num_chunks, float* partials) {
    const int64_t d = op.heads.head_size;
    const int64_t count = op.qkv.shape()[1];
    const int64_t position = op.first_position + n / op.heads.heads % count;
    const int64_t seen = position / kPositions + 1;
    float* first = partials + n * num_chunks * (d + kStatistics);
    float maximum = first[d];
    for (int64_t chunk = 1; chunk < seen; ++chunk) {
        maximum = std::max(maximum, first[chunk * (d + kStatistics) + d]);
    }
    float sum = 0.0F;
    for (int64_t chunk = 0; chunk < seen; ++chunk) {
        const float* partial = first + chunk * (d + kStatistics);
        const float weight = std::exp(partial[d] - maximum);
        sum += weight * partial[d + 1];
        walk(d, [&](int64_t i, auto lanes) {
            const VF v = hn::Mul(set(weight), load(partial + i, lanes));
            store(chunk == 0 ? v : hn::Add(load(first + i, lanes), v), first + i, lanes);
        });
    }
    T* y = data_of<T>(op.y) + n * d;
    const VF by = set(1.0F / sum);
    walk(d,
         [&](int64_t i, auto lanes) { store(hn::Mul(load(first + i, lanes), by), y + i, lanes); });
}

void merge_kernel(const CachedAttention& op, int64_t begin, int64_t end, int64_t num_chunks,
                  float* partials) {
    with_type(op.qkv.dtype(), [&](auto type) {
        for (int64_t n = begin; n < end; ++n) {
            merge<decltype(type)>(op, n, num_chunks, partials);
        }
    });
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(store_rows_kernel);
HWY_EXPORT(chunk_kernel);
HWY_EXPORT(merge_kernel);

namespace {
int64_t chunks_of(int64_t positions) { return (positions + kPositions - 1) / kPositions; }
}  // namespace

int64_t CpuBackend::workspace_bytes(const CachedAttention& op) const {
    return op.qkv.rows() * op.heads.heads * chunks_of(op.key_cache.shape()[2]) *
           (op.heads.head_size + kStatistics) * static_cast<int64_t>(sizeof(float));
}

void CpuBackend::execute(const CachedAttention& op, Stream) {
    const int64_t rows = op.qkv.rows();
    const int64_t num_chunks = chunks_of(op.key_cache.shape()[2]);
    const int64_t used_chunks = chunks_of(op.first_position + op.qkv.shape()[1]);
    const int64_t kv_heads = op.heads.kv_heads;
    auto* partials = static_cast<float*>(op.workspace.data());
    parallel_ranges(num_threads(), rows, 64, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(store_rows_kernel)(op, begin, end);
    });
    run_team(num_threads(), [&](int) {
        team_for(op.qkv.shape()[0] * kv_heads * used_chunks, [&](int64_t i) {
            HWY_DYNAMIC_DISPATCH(chunk_kernel)
            (op, i / used_chunks / kv_heads, i / used_chunks % kv_heads, i % used_chunks,
             num_chunks, partials);
        });
    });
    parallel_ranges(num_threads(), rows * op.heads.heads, 16, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(merge_kernel)(op, begin, end, num_chunks, partials);
    });
}

}  // namespace lathe::cpu
#endif
