// Least significant digit first. A pass counts digits by tile, then every tile finds its places: by
// the counts of lower digits, of earlier tiles, of its earlier warps, rounds and lanes.
#include <bit>
#include <utility>

#include "kernels/cuda/embedding_shapes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/sort_tokens.h"

namespace lathe::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kRounds = static_cast<int>(kSortTile) / kThreads;
constexpr int kDigitsPerThread = kDigits / kThreads;

struct Pass {
    const int32_t* tokens;
    const int32_t* positions;  ///< null in the first pass: 0, 1, 2, ...
    int32_t* sorted_tokens;
    int32_t* sorted_positions;
    int32_t* counts;  ///< [tiles, digits]
    int count;
    int shift;

    __device__ __forceinline__ int digit(int32_t token) const {
        return (token >> shift) & (kDigits - 1);
    }
};

__global__ void __launch_bounds__(kThreads) count_kernel(Pass pass) {
    __shared__ int counts[kDigits];
    for (int digit = static_cast<int>(threadIdx.x); digit < kDigits; digit += kThreads) {
        counts[digit] = 0;
    }
    __syncthreads();
    const int begin = static_cast<int>(blockIdx.x) * static_cast<int>(kSortTile);
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const int i = begin + round * kThreads + static_cast<int>(threadIdx.x);
        if (i < pass.count) {
            atomicAdd(&counts[pass.digit(pass.tokens[i])], 1);
        }
    }
    __syncthreads();
    for (int digit = static_cast<int>(threadIdx.x); digit < kDigits; digit += kThreads) {
        pass.counts[static_cast<int64_t>(blockIdx.x) * kDigits + digit] = counts[digit];
    }
}

/// Where this tile's first of each digit goes: thread t's digits are t and t + 256.
__device__ __forceinline__ void tile_places(const Pass& pass, int (&places)[kDigitsPerThread],
                                            int* scratch) {
    const auto thread = static_cast<int>(threadIdx.x);
    int totals[kDigitsPerThread] = {};
#pragma unroll
    for (int i = 0; i < kDigitsPerThread; ++i) {
        places[i] = 0;
    }
#pragma unroll 4
    for (unsigned tile = 0; tile < gridDim.x; ++tile) {
#pragma unroll
        for (int i = 0; i < kDigitsPerThread; ++i) {
            const int n = pass.counts[static_cast<int64_t>(tile) * kDigits + i * kThreads + thread];
            totals[i] += n;
            places[i] += tile < blockIdx.x ? n : 0;
        }
    }
    // Inclusive sums over all digits, doubling the reach at each step.
#pragma unroll
    for (int i = 0; i < kDigitsPerThread; ++i) {
        scratch[i * kThreads + thread] = totals[i];
    }
    __syncthreads();
    for (int reach = 1; reach < kDigits; reach *= 2) {
        int added[kDigitsPerThread];
#pragma unroll
        for (int i = 0; i < kDigitsPerThread; ++i) {
            const int digit = i * kThreads + thread;
            added[i] = digit >= reach ? scratch[digit - reach] : 0;
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kDigitsPerThread; ++i) {
            scratch[i * kThreads + thread] += added[i];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < kDigitsPerThread; ++i) {
        places[i] += scratch[i * kThreads + thread] - totals[i];
    }
}

/// A warp ranks a contiguous eighth of the tile, 32 tokens a round.
__global__ void __launch_bounds__(kThreads) place_kernel(Pass pass) {
    __shared__ int counts[kWarps][kDigits];  // by warp; then places
    __shared__ int scratch[kDigits];
    const auto thread = static_cast<int>(threadIdx.x);
    const int lane = thread % kWarpSize;
    const int warp = thread / kWarpSize;
    for (int digit = lane; digit < kDigits; digit += kWarpSize) {
        counts[warp][digit] = 0;
    }
    __syncwarp();
    const int begin = static_cast<int>(blockIdx.x) * static_cast<int>(kSortTile) +
                      warp * kRounds * kWarpSize + lane;
    int32_t tokens[kRounds];
    int ranks[kRounds];
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const int i = begin + round * kWarpSize;
        const bool valid = i < pass.count;
        tokens[round] = valid ? pass.tokens[i] : 0;
        // Lanes past the end are each other's peers only.
        const int digit = valid ? pass.digit(tokens[round]) : kDigits;
        const unsigned peers = __match_any_sync(kFullWarp, digit);
        const unsigned before = peers & ((1U << lane) - 1);
        ranks[round] = valid ? counts[warp][digit] + __popc(before) : 0;
        __syncwarp();
        if (valid && before == 0) {
            counts[warp][digit] += __popc(peers);
        }
        __syncwarp();
    }
    int places[kDigitsPerThread];
    tile_places(pass, places, scratch);  // its barriers also make all counts visible
#pragma unroll
    for (int i = 0; i < kDigitsPerThread; ++i) {
        for (auto& of_warp : counts) {
            const int n = of_warp[i * kThreads + thread];
            of_warp[i * kThreads + thread] = places[i];
            places[i] += n;
        }
    }
    __syncthreads();
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const int i = begin + round * kWarpSize;
        if (i < pass.count) {
            const int place = counts[warp][pass.digit(tokens[round])] + ranks[round];
            pass.sorted_tokens[place] = tokens[round];
            pass.sorted_positions[place] = pass.positions == nullptr ? i : pass.positions[i];
        }
    }
}

}  // namespace

SortedTokens sort_tokens(const char* name, const int32_t* tokens, int64_t count, int64_t vocabulary,
                         void* workspace, cudaStream_t stream) {
    auto* buffers = static_cast<int32_t*>(workspace);
    Pass pass = {.tokens = tokens,
                 .positions = nullptr,
                 .sorted_tokens = buffers,
                 .sorted_positions = buffers + count,
                 .counts = buffers + 4 * count,
                 .count = static_cast<int>(count),
                 .shift = 0};
    const auto bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(vocabulary - 1)));
    const LaunchShape shape = {
        .blocks = static_cast<unsigned>(sort_tiles(count)), .threads = kThreads, .stream = stream};
    for (int32_t* other = buffers + 2 * count;; other = buffers + 2 * count - (other - buffers)) {
        launch(name, count_kernel, shape, pass);
        launch(name, place_kernel, shape, pass);
        pass.shift += kDigitBits;
        if (pass.shift >= bits) {
            return {pass.sorted_tokens, pass.sorted_positions};
        }
        pass.tokens = pass.sorted_tokens;
        pass.positions = pass.sorted_positions;
        pass.sorted_tokens = other;
        pass.sorted_positions = other + count;
    }
}

}  // namespace lathe::cuda
