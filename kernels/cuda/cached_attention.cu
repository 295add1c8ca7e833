// Attention against a cache. New keys and values are stored first. Prompts then take the forward
// kernel. One new token a sequence (decoding) is bound by reading the cache: the positions are
// split over blocks (flash-decoding), each of which leaves the maximum, the sum and the y of its
// part, and a second kernel combines the parts in their order.
#include <cmath>

#include "kernels/cuda/attention_arguments.h"
#include "kernels/cuda/attention_shapes.h"
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.h"

namespace lathe::cuda {
namespace {

constexpr int kChunk = 8;  ///< elements of a row that a lane takes at once

/// Eight elements, of which `count` exist; the others are 0. 16-byte accesses where rows are
/// aligned.
template <typename T>
__device__ __forceinline__ void load_chunk(T (&elements)[kChunk], const T* source, int count,
                                           bool is_aligned) {
    constexpr int kSize = Pack<T>::kSize;
#pragma unroll
    for (int i = 0; i < kChunk; i += kSize) {
        Pack<T> pack;
        if (is_aligned && count >= i + kSize) {
            pack = Pack<T>::load(source + i);
        } else {
#pragma unroll
            for (int c = 0; c < kSize; ++c) {
                pack.values[c] = i + c < count ? source[i + c] : T(0.0F);
            }
        }
#pragma unroll
        for (int c = 0; c < kSize; ++c) {
            elements[i + c] = pack.values[c];
        }
    }
}

template <typename T>
struct CacheArguments {
    AttentionSizes sizes;
    HeadRows<const T> new_keys, new_values;
    HeadRows<T> keys, values;
    int first_position;
};

constexpr int kStoreThreads = 256;

/// A thread stores one chunk of a key and of its value; blockIdx.y is the sequence.
template <typename T>
__global__ void __launch_bounds__(kStoreThreads)
    store_new(const __grid_constant__ CacheArguments<T> args) {
    const AttentionSizes& sizes = args.sizes;
    const int chunks = (sizes.head_size + kChunk - 1) / kChunk;
    const int64_t index = int64_t{blockIdx.x} * kStoreThreads + threadIdx.x;
    const int column = static_cast<int>(index % chunks) * kChunk;
    const int head = static_cast<int>(index / chunks % sizes.kv_heads);
    const int64_t t = index / chunks / sizes.kv_heads;
    const int64_t batch = blockIdx.y;
    if (t >= sizes.time) {
        return;
    }
    const auto copy = [&](const HeadRows<const T>& from, const HeadRows<T>& to) {
        const T* source = from.row(batch, head, t) + column;
        T* destination = to.row(batch, head, args.first_position + t) + column;
        const int count = min(kChunk, sizes.head_size - column);
        T elements[kChunk];
        load_chunk(elements, source, count, sizes.is_aligned);
        constexpr int kSize = Pack<T>::kSize;
#pragma unroll
        for (int i = 0; i < kChunk; i += kSize) {
            Pack<T> pack;
#pragma unroll
            for (int c = 0; c < kSize; ++c) {
                pack.values[c] = elements[i + c];
            }
            if (sizes.is_aligned && count >= i + kSize) {
                pack.store_global(destination + i);
                continue;
            }
#pragma unroll
            for (int c = 0; c < kSize; ++c) {
                if (i + c < count) {
                    destination[i + c] = pack.values[c];
                }
            }
        }
    };
    copy(args.new_keys, args.keys);
    copy(args.new_values, args.values);
}

template <typename T>
struct SplitArguments {
    AttentionSizes sizes;
    HeadRows<const T> queries, keys, values;
    HeadRows<T> y;
    const float* slopes;  ///< [H], or null
    int num_keys;
    int num_parts;
    float* maxima;      ///< [B, H, parts], powers of two
    float* sums;        ///< [B, H, parts]
    float* weighted_y;  ///< [B, H, parts, D]
};

constexpr int kSplitWarps = 4;
constexpr int kSplitThreads = kSplitWarps * kWarpSize;
static_assert(kSplitHeads <= kSplitWarps, "a warp for each head's softmax");

/// Scores of a block's heads; rows of different heads begin in different banks.
using Scores = float[kSplitHeads][kSplitKeys + 8];

/// Where a block is: one part of the keys of one head, and the query heads it serves.
struct SplitPlace {
    int64_t batch;
    int kv_head, first_head, num_heads, part, first_key, num_keys;

    template <typename T>
    __device__ explicit SplitPlace(const SplitArguments<T>& args) {
        const int head_blocks = (args.sizes.group + kSplitHeads - 1) / kSplitHeads;
        const int block = static_cast<int>(blockIdx.x);
        const int first_of_group = block % head_blocks * kSplitHeads;
        kv_head = block / head_blocks % args.sizes.kv_heads;
        batch = block / head_blocks / args.sizes.kv_heads;
        first_head = kv_head * args.sizes.group + first_of_group;
        num_heads = min(kSplitHeads, args.sizes.group - first_of_group);
        part = static_cast<int>(blockIdx.y);
        first_key = part * kSplitKeys;
        num_keys = min(kSplitKeys, args.num_keys - first_key);
    }
};

/// Scores of the block's keys, as powers of two; -infinity past the last key. Eight lanes share a
/// key.
template <typename T, int kHead>
__device__ __forceinline__ void score_keys(const SplitArguments<T>& args, const SplitPlace& at,
                                           Scores& scores) {
    constexpr int kLanes = 8;
    constexpr int kChunks = kHead / (kLanes * kChunk);
    constexpr int kKeysAtOnce = kSplitThreads / kLanes;
    const AttentionSizes& sizes = args.sizes;
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    float query[kSplitHeads][kChunks][kChunk];
    float slopes[kSplitHeads];
#pragma unroll
    for (int h = 0; h < kSplitHeads; ++h) {
        const bool is_head = h < at.num_heads;
        slopes[h] =
            is_head && args.slopes != nullptr ? args.slopes[at.first_head + h] * kLog2E : 0.0F;
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
            const int column = (c * kLanes + lane) * kChunk;
            T elements[kChunk];
            load_chunk(elements,
                       args.queries.row(at.batch, at.first_head + (is_head ? h : 0), 0) + column,
                       sizes.head_size - column, sizes.is_aligned);
#pragma unroll
            for (int e = 0; e < kChunk; ++e) {
                query[h][c][e] = to_float(elements[e]);
            }
        }
    }
#pragma unroll 4
    for (int first = 0; first < kSplitKeys; first += kKeysAtOnce) {
        const int key = first + static_cast<int>(threadIdx.x) / kLanes;
        const bool is_key = key < at.num_keys;
        const T* row = args.keys.row(at.batch, at.kv_head, at.first_key + key);
        float products[kSplitHeads] = {};
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
            const int column = (c * kLanes + lane) * kChunk;
            T elements[kChunk];
            load_chunk(elements, row + column, is_key ? sizes.head_size - column : 0,
                       sizes.is_aligned);
#pragma unroll
            for (int h = 0; h < kSplitHeads; ++h) {
                if (h < at.num_heads) {
#pragma unroll
                    for (int e = 0; e < kChunk; ++e) {
                        products[h] = fmaf(to_float(elements[e]), query[h][c][e], products[h]);
                    }
                }
            }
        }
        const auto ahead = static_cast<float>(at.first_key + key + 1 - args.num_keys);
#pragma unroll
        for (int h = 0; h < kSplitHeads; ++h) {
#pragma unroll
            for (int offset = kLanes / 2; offset > 0; offset /= 2) {
                products[h] += __shfl_xor_sync(kFullWarp, products[h], offset);
            }
            if (lane == h) {
                scores[h][key] =
                    is_key ? fmaf(products[h], sizes.scale_log2, slopes[h] * ahead) : -INFINITY;
            }
        }
    }
}

/// A warp turns one head's scores into probabilities relative to their maximum, and keeps both.
template <typename T>
__device__ __forceinline__ void soften(const SplitArguments<T>& args, const SplitPlace& at,
                                       Scores& scores) {
    const int head = static_cast<int>(threadIdx.x) / kWarpSize;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    if (head >= at.num_heads) {
        return;
    }
    float values[kSplitKeys / kWarpSize];
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kSplitKeys / kWarpSize; ++i) {
        values[i] = scores[head][i * kWarpSize + lane];
        largest = fmaxf(largest, values[i]);
    }
    largest = warp_max(largest);
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kSplitKeys / kWarpSize; ++i) {
        values[i] = exp2f(values[i] - largest);
        scores[head][i * kWarpSize + lane] = values[i];
        sum += values[i];
    }
    sum = warp_sum(sum);
    if (lane == 0) {
        const int64_t row = at.batch * args.sizes.heads + at.first_head + head;
        args.maxima[row * args.num_parts + at.part] = largest;
        args.sums[row * args.num_parts + at.part] = sum;
    }
}

/// The warps' sums of each head. The halves of each 8 columns lie apart, and in different banks, so
/// that lanes write 16 bytes side by side.
template <int kHead>
struct WarpSums {
    float values[kSplitWarps][kSplitHeads][kHead + 16];

    __device__ __forceinline__ float& at(int warp, int head, int column) {
        return values[warp][head][column / 4 % 2 * (kHead / 2 + 16) + column / 8 * 4 + column % 4];
    }
};

/// The values weighted by the block's probabilities: each warp sums every fourth group of keys,
/// then the warps' sums are added in their order.
template <typename T, int kHead>
__device__ __forceinline__ void weigh_values(const SplitArguments<T>& args, const SplitPlace& at,
                                             const Scores& p, WarpSums<kHead>& partial) {
    constexpr int kLanes = kHead / kChunk;  // that share a key
    constexpr int kKeysAtOnce = kSplitThreads / kLanes;
    const AttentionSizes& sizes = args.sizes;
    const int column = static_cast<int>(threadIdx.x) % kLanes * kChunk;
    float sums[kSplitHeads][kChunk] = {};
#pragma unroll 4
    for (int first = 0; first < kSplitKeys; first += kKeysAtOnce) {
        const int key = first + static_cast<int>(threadIdx.x) / kLanes;
        T elements[kChunk];
        load_chunk(elements, args.values.row(at.batch, at.kv_head, at.first_key + key) + column,
                   key < at.num_keys ? sizes.head_size - column : 0, sizes.is_aligned);
#pragma unroll
        for (int h = 0; h < kSplitHeads; ++h) {
            if (h < at.num_heads) {
                const float weight = p[h][key];
#pragma unroll
                for (int e = 0; e < kChunk; ++e) {
                    sums[h][e] = fmaf(weight, to_float(elements[e]), sums[h][e]);
                }
            }
        }
    }
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
#pragma unroll
    for (int h = 0; h < kSplitHeads; ++h) {
#pragma unroll
        for (int e = 0; e < kChunk; ++e) {
#pragma unroll
            for (int offset = kWarpSize / 2; offset >= kLanes; offset /= 2) {
                sums[h][e] += __shfl_xor_sync(kFullWarp, sums[h][e], offset);
            }
        }
        if (static_cast<int>(threadIdx.x) % kWarpSize < kLanes) {
#pragma unroll
            for (int e = 0; e < kChunk; e += 4) {
                *reinterpret_cast<float4*>(&partial.at(warp, h, column + e)) =
                    make_float4(sums[h][e], sums[h][e + 1], sums[h][e + 2], sums[h][e + 3]);
            }
        }
    }
    __syncthreads();
    for (int h = 0; h < at.num_heads; ++h) {
        const int64_t row = at.batch * sizes.heads + at.first_head + h;
        float* to = args.weighted_y + (row * args.num_parts + at.part) * sizes.head_size;
        for (int d = static_cast<int>(threadIdx.x); d < sizes.head_size; d += kSplitThreads) {
            float sum = partial.at(0, h, d);
#pragma unroll
            for (int w = 1; w < kSplitWarps; ++w) {
                sum += partial.at(w, h, d);
            }
            to[d] = sum;
        }
    }
}

template <typename T, int kHead>
__global__ void __launch_bounds__(kSplitThreads)
    attend_part(const __grid_constant__ SplitArguments<T> args) {
    __shared__ Scores scores;
    __shared__ __align__(16) WarpSums<kHead> partial;
    const SplitPlace at(args);
    score_keys<T, kHead>(args, at, scores);
    __syncthreads();
    soften(args, at, scores);
    __syncthreads();
    weigh_values<T, kHead>(args, at, scores, partial);
}

constexpr int kCombineThreads = 64;

/// y of one query row from its parts, a block a row.
template <typename T>
__global__ void __launch_bounds__(kCombineThreads)
    combine_parts(const __grid_constant__ SplitArguments<T> args) {
    const int64_t row = blockIdx.x;
    const int head_size = args.sizes.head_size;
    const float* maxima = args.maxima + row * args.num_parts;
    const float* sums = args.sums + row * args.num_parts;
    const float* weighted_y = args.weighted_y + row * args.num_parts * head_size;
    float largest = maxima[0];
    for (int part = 1; part < args.num_parts; ++part) {
        largest = fmaxf(largest, maxima[part]);
    }
    for (int d = static_cast<int>(threadIdx.x); d < head_size; d += kCombineThreads) {
        float y = 0.0F;
        float sum = 0.0F;
        for (int part = 0; part < args.num_parts; ++part) {
            const float factor = exp2f(maxima[part] - largest);
            sum = fmaf(factor, sums[part], sum);
            y = fmaf(factor, weighted_y[int64_t{part} * head_size + d], y);
        }
        args.y.row(row / args.sizes.heads, row % args.sizes.heads, 0)[d] = from_float<T>(y / sum);
    }
}

template <typename T>
void launch_store(const CacheArguments<T>& args, cudaStream_t stream) {
    const AttentionSizes& sizes = args.sizes;
    const int64_t chunks =
        int64_t{sizes.time} * sizes.kv_heads * divide_up(sizes.head_size, kChunk);
    launch("CachedAttention", store_new<T>,
           {.blocks = dim3(static_cast<unsigned>(divide_up(chunks, kStoreThreads)),
                           static_cast<unsigned>(sizes.batch)),
            .threads = dim3(kStoreThreads),
            .stream = stream},
           args);
}

template <typename T>
void launch_split(const SplitArguments<T>& args, cudaStream_t stream) {
    const AttentionSizes& sizes = args.sizes;
    const int64_t blocks = sizes.batch * sizes.kv_heads * divide_up(sizes.group, kSplitHeads);
    const LaunchShape shape = {
        .blocks = dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(args.num_parts)),
        .threads = dim3(kSplitThreads),
        .stream = stream};
    if (sizes.head_size <= 64) {
        launch("CachedAttention", attend_part<T, 64>, shape, args);
    } else if (sizes.head_size <= 128) {
        launch("CachedAttention", attend_part<T, 128>, shape, args);
    } else {
        launch("CachedAttention", attend_part<T, kLargestHead>, shape, args);
    }
    launch("CachedAttention", combine_parts<T>,
           {.blocks = dim3(static_cast<unsigned>(sizes.batch * sizes.heads)),
            .threads = dim3(kCombineThreads),
            .stream = stream},
           args);
}

}  // namespace

void CudaBackend::execute(const CachedAttention& op, Stream stream) {
    if (op.qkv.size() == 0) {
        return;
    }
    for_compute_type(op.qkv.dtype(), [&]<typename T>(T) {
        const auto [heads, kv_heads, head_size] = op.heads;
        const AttentionSizes sizes(
            op.heads, op.qkv,
            are_aligned(op.qkv.data(), op.key_cache.data(), op.value_cache.data(), op.y.data()));
        const auto first_position = static_cast<int>(op.first_position);
        const float* slopes = op.slopes ? op.slopes.as<float>() : nullptr;
        const auto queries = packed_rows<const T>(op.qkv, head_size, 0);
        const auto keys = cached_rows<const T>(op.key_cache);
        const auto values = cached_rows<const T>(op.value_cache);
        const auto y = packed_rows<T>(op.y, head_size, 0);
        launch_store(CacheArguments<T>{.sizes = sizes,
                                       .new_keys = packed_rows<const T>(op.qkv, head_size, heads),
                                       .new_values = packed_rows<const T>(op.qkv, head_size,
                                                                          heads + kv_heads),
                                       .keys = cached_rows<T>(op.key_cache),
                                       .values = cached_rows<T>(op.value_cache),
                                       .first_position = first_position},
                     this->stream(stream));
        if (!is_split(op)) {
            launch_forward(ForwardArguments<T>{.sizes = sizes,
                                               .queries = queries,
                                               .keys = keys,
                                               .values = values,
                                               .y = y,
                                               .log_sum_exp = nullptr,
                                               .slopes = slopes,
                                               .first_position = first_position},
                           this->stream(stream));
            return;
        }
        const int num_keys = first_position + 1;
        const auto num_parts = static_cast<int>(divide_up(num_keys, kSplitKeys));
        const int64_t parts = sizes.batch * heads * num_parts;
        auto* workspace = static_cast<float*>(op.workspace.data());
        launch_split(SplitArguments<T>{.sizes = sizes,
                                       .queries = queries,
                                       .keys = keys,
                                       .values = values,
                                       .y = y,
                                       .slopes = slopes,
                                       .num_keys = num_keys,
                                       .num_parts = num_parts,
                                       .maxima = workspace,
                                       .sums = workspace + parts,
                                       .weighted_y = workspace + 2 * parts},
                     this->stream(stream));
    });
}

}  // namespace lathe::cuda
