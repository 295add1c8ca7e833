// CachedAttention: bound by reading the caches. A unit takes kPositions positions of one key/value
// head for one token's query heads of that group; the units' partial softmaxes are then merged in
// order. A long prompt goes through in blocks of tokens, so that the partials stay few.
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
/// Tokens whose partial results exist at the same time.
inline constexpr int64_t kBlockRows = 32;
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
    constexpr int64_t kTogether = 4;
    HWY_ALIGN float scores[kPositions];
    int64_t first = 0;
    for (; first + kTogether <= count; first += kTogether) {
        dot_rows<kTogether>(keys + first * d, d, query, d, scores + first, 1);
    }
    for (; first < count; ++first) {
        dot_rows<1>(keys + first * d, d, query, d, scores + first, 1);
    }
    float maximum = -std::numeric_limits<float>::infinity();
    for (int64_t j = 0; j < count; ++j) {
        scores[j] = scores[j] * scale + slope * static_cast<float>(distance + j);
        maximum = std::max(maximum, scores[j]);
    }
    const VF shift = set(maximum);
    const float sum = sum_over(count, [&](int64_t i, auto lanes) {
        const VF p = exp(hn::Sub(load(scores + i, lanes), shift));
        store(p, scores + i, lanes);
        return keep(p, lanes);
    });
    std::fill_n(partial, d, 0.0F);
    for (first = 0; first < count; first += kTogether) {
        const int64_t end = std::min(first + kTogether, count);
        walk(d, [&](int64_t i, auto lanes) {
            VF weighted = load(partial + i, lanes);
            for (int64_t j = first; j < end; ++j) {
                weighted = hn::MulAdd(set(scores[j]), load(values + j * d + i, lanes), weighted);
            }
            store(weighted, partial + i, lanes);
        });
    }
    partial[d] = maximum;
    partial[d + 1] = sum;
}

/// Chunk `chunk` of key/value head `kv` for token `row` of [B S]. `partials` are those of the row:
/// [H, num_chunks][D + 2].
void chunk_kernel(const CachedAttention& op, int64_t row, int64_t kv, int64_t chunk,
                  int64_t num_chunks, float* partials) {
    const AttentionHeads& h = op.heads;
    const int64_t d = h.head_size;
    const int64_t count = op.qkv.shape()[1];
    const int64_t capacity = op.key_cache.shape()[2];
    const int64_t group = h.heads / h.kv_heads;
    const int64_t begin = chunk * kPositions;
    const int64_t position = op.first_position + row % count;
    const int64_t visible = std::min(kPositions, position + 1 - begin);
    if (visible <= 0) {
        return;
    }
    const float scale = 1.0F / std::sqrt(static_cast<float>(d));
    with_type(op.qkv.dtype(), [&](auto type) {
        using T = decltype(type);
        const int64_t cached = ((row / count * h.kv_heads + kv) * capacity + begin) * d;
        const T* queries = data_of<T>(op.qkv) + row * h.qkv_columns();
        for (int64_t head = kv * group; head < (kv + 1) * group; ++head) {
            const float slope = op.slopes ? data_of<float>(op.slopes)[head] : 0.0F;
            attend(queries + head * d, data_of<T>(op.key_cache) + cached,
                   data_of<T>(op.value_cache) + cached, visible, d, scale, slope, begin - position,
                   partials + (head * num_chunks + chunk) * (d + kStatistics));
        }
    });
}

/// y of number `n` of [B, S, H] from its chunks' partial results [num_chunks][D + 2], in order.
template <typename T>
void merge(const CachedAttention& op, int64_t n, float* partials) {
    const int64_t d = op.heads.head_size;
    const int64_t count = op.qkv.shape()[1];
    const int64_t position = op.first_position + n / op.heads.heads % count;
    const int64_t seen = position / kPositions + 1;
    float maximum = partials[d];
    for (int64_t chunk = 1; chunk < seen; ++chunk) {
        maximum = std::max(maximum, partials[chunk * (d + kStatistics) + d]);
    }
    float sum = 0.0F;
    for (int64_t chunk = 0; chunk < seen; ++chunk) {
        const float* partial = partials + chunk * (d + kStatistics);
        const float weight = std::exp(partial[d] - maximum);
        sum += weight * partial[d + 1];
        walk(d, [&](int64_t i, auto lanes) {
            const VF v = hn::Mul(set(weight), load(partial + i, lanes));
            store(chunk == 0 ? v : hn::Add(load(partials + i, lanes), v), partials + i, lanes);
        });
    }
    T* y = data_of<T>(op.y) + n * d;
    const VF by = set(1.0F / sum);
    walk(d, [&](int64_t i, auto lanes) {
        store(hn::Mul(load(partials + i, lanes), by), y + i, lanes);
    });
}

void merge_kernel(const CachedAttention& op, int64_t n, float* partials) {
    with_type(op.qkv.dtype(), [&](auto type) { merge<decltype(type)>(op, n, partials); });
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(store_rows_kernel);
HWY_EXPORT(chunk_kernel);
HWY_EXPORT(merge_kernel);

namespace {
/// Chunks that the last token sees.
int64_t chunks_of(const CachedAttention& op) {
    return (op.first_position + op.qkv.shape()[1] + kPositions - 1) / kPositions;
}
}  // namespace

int64_t CpuBackend::workspace_bytes(const CachedAttention& op) const {
    return std::min(op.qkv.rows(), kBlockRows) * op.heads.heads * chunks_of(op) *
           (op.heads.head_size + kStatistics) * static_cast<int64_t>(sizeof(float));
}

void CpuBackend::execute(const CachedAttention& op, Stream) {
    const int64_t rows = op.qkv.rows();
    const int64_t heads = op.heads.heads;
    const int64_t kv_heads = op.heads.kv_heads;
    const int64_t num_chunks = chunks_of(op);
    const int64_t head_partials = num_chunks * (op.heads.head_size + kStatistics);
    auto* partials = static_cast<float*>(op.workspace.data());
    parallel_ranges(team(), rows, 64, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(store_rows_kernel)(op, begin, end);
    });
    run_team(team(), [&](TeamThread& thread) {
        for (int64_t first = 0; first < rows; first += kBlockRows) {
            const int64_t count = std::min(kBlockRows, rows - first);
            team_for(thread, count * kv_heads * num_chunks, [&](int64_t i) {
                const int64_t row = i / num_chunks / kv_heads;
                HWY_DYNAMIC_DISPATCH(chunk_kernel)
                (op, first + row, i / num_chunks % kv_heads, i % num_chunks, num_chunks,
                 partials + row * heads * head_partials);
            });
            team_for(thread, count * heads, [&](int64_t i) {
                HWY_DYNAMIC_DISPATCH(merge_kernel)
                (op, first * heads + i, partials + i * head_partials);
            });
        }
    });
}

}  // namespace lathe::cpu
#endif
