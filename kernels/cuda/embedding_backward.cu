// Gradient of Embedding. Positions are sorted by token; a warp then adds a
// window of 64 rows of d_y in that order, however tokens repeat: equal tokens
// are a run of rows. A run inside of one window goes straight to its table row;
// runs that cross windows leave partial sums, which a second kernel adds in
// order. So every row of d_y is read once, and no order depends on the
// scheduling.
#include <limits>

#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/embedding_shapes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sort_tokens.h"
#include "kernels/cuda/span.h"
#include "kernels/cuda/warp_tile.h"

namespace lathe::cuda {
namespace {

/// Rows that a warp loads before it adds the first.
constexpr int kLoadedAtOnce = 8;
constexpr int kTile = Span::kColumns;

struct Table {
    SortedTokens sorted;
    float* d_table;   ///< [vocabulary, columns]
    float* partials;  ///< [windows, 2, columns]: of the run that enters a window,
                      ///< that leaves it
    int32_t* occurs;  ///< [vocabulary], 1 for tokens that occur
    int64_t count;
    int64_t columns;
    int64_t vocabulary;
    bool accumulate;

    __device__ __forceinline__ float* entering(int64_t window) const {
        return partials + 2 * window * columns;
    }
    __device__ __forceinline__ float* leaving(int64_t window) const {
        return entering(window) + columns;
    }
};

__device__ __forceinline__ void add(Span& sum, const Span& term) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        sum.values[i] += term.values[i];
    }
}

/// d_table[token] = or += sum, in this warp's columns.
template <bool kAligned>
__device__ __forceinline__ void finish(const Table& table, int32_t token, int64_t column,
                                       int64_t count, Span sum) {
    float* row = table.d_table + token * table.columns + column;
    if (table.accumulate) {
        add(sum, load_span<float, kAligned>(row, count));
    }
    store_span<float, kAligned>(row, count, sum);
}

/// A warp's window of the sorted tokens; lanes hold two each.
struct Window {
    int64_t index;
    int count;
    int32_t tokens[2];
    int32_t positions[2];
    int32_t before;  ///< the token before the window, -1 at the start
    int32_t after;   ///< the token after it, -1 at the end

    __device__ __forceinline__ Window(const Table& table, int64_t window)
        : index(window), tokens{}, positions{} {
        const int64_t begin = window * kWindowRows;
        const int64_t left = table.count - begin;
        count = static_cast<int>(left < kWindowRows ? left : kWindowRows);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int row = i * kWarpSize + Span::lane();
            if (row < count) {
                tokens[i] = table.sorted.tokens[begin + row];
                positions[i] = table.sorted.positions[begin + row];
            }
        }
        before = begin > 0 ? table.sorted.tokens[begin - 1] : -1;
        after = left > kWindowRows ? table.sorted.tokens[begin + kWindowRows] : -1;
    }
    /// By the whole warp, of the same row.
    __device__ __forceinline__ int32_t token(int row) const {
        return __shfl_sync(kFullWarp, row < kWarpSize ? tokens[0] : tokens[1], row % kWarpSize);
    }
    __device__ __forceinline__ int32_t position(int row) const {
        return __shfl_sync(kFullWarp, row < kWarpSize ? positions[0] : positions[1],
                           row % kWarpSize);
    }
};

template <typename T, bool kAligned>
__global__ void __launch_bounds__(kTileThreads) window_kernel(const T* d_y, Table table) {
    const WarpTile tile =
        warp_tile((table.count + kWindowRows - 1) / kWindowRows, table.columns, kTile);
    if (tile.row * kWindowRows >= table.count) {
        return;
    }
    const Window window(table, tile.row);
    const int64_t width = tile.end - tile.begin;
    Span sum{};
    bool entered = window.before == window.token(0);  // the run began in an earlier window
    const auto end_run = [&](int32_t token, bool leaves) {
        if (entered || leaves) {
            float* partial = entered ? table.entering(window.index) : table.leaving(window.index);
            store_span<float, kAligned>(partial + tile.begin, width, sum);
        } else {
            finish<kAligned>(table, token, tile.begin, width, sum);
        }
        if (!entered && tile.begin == 0 && Span::lane() == 0) {
            table.occurs[token] = 1;
        }
        entered = false;
        sum = {};
    };
    for (int first = 0; first < window.count; first += kLoadedAtOnce) {
        decltype(load_raw<T, kAligned>(nullptr, 0)) rows[kLoadedAtOnce];
#pragma unroll
        for (int i = 0; i < kLoadedAtOnce; ++i) {
            if (first + i < window.count) {
                const int64_t position = window.position(first + i);
                rows[i] = load_raw<T, kAligned>(d_y + position * table.columns + tile.begin, width);
            }
        }
#pragma unroll
        for (int i = 0; i < kLoadedAtOnce; ++i) {
            const int row = first + i;
            if (row < window.count) {
                add(sum, to_span(rows[i]));
                const int32_t token = window.token(row);
                const bool last = row + 1 == window.count;
                const int32_t following = last ? window.after : window.token(row + 1);
                if (last || following != token) {
                    end_run(token, following == token);
                }
            }
        }
    }
}

/// Sums up the run that leaves window blockIdx.x and began there, if there is
/// one: what it left, then what entered the windows that follow. Warps take
/// ranges of those, the first adds them up.
__global__ void __launch_bounds__(kTileThreads) crossing_kernel(Table table, bool aligned) {
    __shared__ float4 shared[kTileWarps][2][kWarpSize];
    const int64_t window = blockIdx.x;
    const int64_t begin = window * kWindowRows;
    const int64_t end = begin + kWindowRows;
    const int32_t* tokens = table.sorted.tokens;
    if (end >= table.count) {
        return;
    }
    const int32_t token = tokens[end - 1];
    const bool leaves = tokens[end] == token;
    const bool began = begin == 0 || tokens[begin - 1] != token;
    if (!leaves || !began) {
        return;
    }
    // The last window that the run enters: the last one that begins with its
    // token.
    int64_t last = window + 1;
    for (int64_t past = (table.count + kWindowRows - 1) / kWindowRows; past - last > 1;) {
        const int64_t middle = (last + past) / 2;
        (tokens[middle * kWindowRows] == token ? last : past) = middle;
    }
    const auto warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const int64_t column = static_cast<int64_t>(blockIdx.y) * kTile;
    const int64_t left = table.columns - column;
    const int64_t width = left < kTile ? left : kTile;
    const auto load = [&](const float* from) {
        return aligned ? load_span<float, true>(from + column, width)
                       : load_span<float, false>(from + column, width);
    };
    Span sum{};
    if (warp == 0) {
        sum = load(table.leaving(window));
    }
    const int64_t entered = last - window;
    const int64_t stop = window + 1 + (warp + 1) * entered / kTileWarps;
#pragma unroll 4
    for (int64_t i = window + 1 + warp * entered / kTileWarps; i < stop; ++i) {
        add(sum, load(table.entering(i)));
    }
    auto& halves = reinterpret_cast<float4(&)[2]>(sum);
    shared[warp][0][Span::lane()] = halves[0];
    shared[warp][1][Span::lane()] = halves[1];
    __syncthreads();
    if (warp == 0) {
#pragma unroll
        for (int other = 1; other < kTileWarps; ++other) {
            Span term;
            auto& parts = reinterpret_cast<float4(&)[2]>(term);
            parts[0] = shared[other][0][Span::lane()];
            parts[1] = shared[other][1][Span::lane()];
            add(sum, term);
        }
        if (aligned) {
            finish<true>(table, token, column, width, sum);
        } else {
            finish<false>(table, token, column, width, sum);
        }
    }
}

/// Zeros for tokens that do not occur: a warp a row.
__global__ void __launch_bounds__(kTileThreads) absent_kernel(Table table, bool aligned) {
    const int64_t row = static_cast<int64_t>(blockIdx.x) * kTileWarps + threadIdx.x / kWarpSize;
    if (row >= table.vocabulary || table.occurs[row] != 0) {
        return;
    }
    for (int64_t column = 0; column < table.columns; column += kTile) {
        float* at = table.d_table + row * table.columns + column;
        if (aligned) {
            store_span<float, true>(at, table.columns - column, {});
        } else {
            store_span<float, false>(at, table.columns - column, {});
        }
    }
}

/// d_table[t] = sum over b of d_y[b, t], zero past the last t: a warp a piece
/// of a row.
template <typename T, bool kAligned>
__global__ void __launch_bounds__(kTileThreads)
    position_kernel(const T* d_y, float* d_table, int64_t count, int64_t time, int64_t positions,
                    int64_t columns) {
    const WarpTile tile = warp_tile(positions, columns, kTile);
    if (tile.row == positions) {
        return;
    }
    const int64_t width = tile.end - tile.begin;
    Span sum{};
    for (int64_t first = tile.row; first < count && tile.row < time;
         first += kLoadedAtOnce * time) {
        decltype(load_raw<T, kAligned>(nullptr, 0)) rows[kLoadedAtOnce];
#pragma unroll
        for (int i = 0; i < kLoadedAtOnce; ++i) {
            if (first + i * time < count) {
                rows[i] =
                    load_raw<T, kAligned>(d_y + (first + i * time) * columns + tile.begin, width);
            }
        }
#pragma unroll
        for (int i = 0; i < kLoadedAtOnce; ++i) {
            if (first + i * time < count) {
                add(sum, to_span(rows[i]));
            }
        }
    }
    store_span<float, kAligned>(d_table + tile.row * columns + tile.begin, width, sum);
}

/// Rows of whole packs of both types, at addresses of 16 bytes.
template <typename T>
bool rows_aligned(const void* d_y, const void* d_table, int64_t columns) {
    return columns % Pack<T>::kSize == 0 && are_aligned(d_y, d_table);
}

template <typename T>
void issue_tokens(const T* d_y, const Table& table, cudaStream_t stream) {
    const char* name = "EmbeddingBackward";
    const int64_t windows = num_windows(table.count);
    const bool aligned = rows_aligned<T>(d_y, table.d_table, table.columns);
    launch(name, aligned ? window_kernel<T, true> : window_kernel<T, false>,
           {.blocks = warp_tile_blocks(windows, table.columns, kTile),
            .threads = kTileThreads,
            .stream = stream},
           d_y, table);
    launch(name, crossing_kernel,
           {.blocks = dim3(static_cast<unsigned>(windows),
                           static_cast<unsigned>(divide_up(table.columns, kTile))),
            .threads = kTileThreads,
            .stream = stream},
           table, aligned);
    if (!table.accumulate) {
        launch(name, absent_kernel,
               {.blocks = static_cast<unsigned>(divide_up(table.vocabulary, kTileWarps)),
                .threads = kTileThreads,
                .stream = stream},
               table, aligned);
    }
}

}  // namespace

void CudaBackend::execute(const EmbeddingBackward& op, Stream stream) {
    const int64_t count = op.tokens.size();
    const int64_t columns = op.d_token_table.columns();
    const int64_t vocabulary = op.d_token_table.rows();
    const cudaStream_t queue = this->stream(stream);
    if (count == 0) {
        if (!op.accumulate_tokens) {
            execute_fill_zero(op.d_token_table, stream);
        }
    } else if (columns > 0) {
        LATHE_CHECK(count <= std::numeric_limits<int32_t>::max(),
                    "EmbeddingBackward: {} tokens, should be below 2^31", count);
        auto* partials = static_cast<float*>(op.workspace.data());
        auto* occurs = reinterpret_cast<int32_t*>(partials + 2 * num_windows(count) * columns);
        CUDA_CHECK(
            cudaMemsetAsync(occurs, 0, static_cast<size_t>(vocabulary) * sizeof(int32_t), queue));
        const Table table = {.sorted = sort_tokens("EmbeddingBackward", op.tokens.as<int32_t>(),
                                                   count, vocabulary, occurs + vocabulary, queue),
                             .d_table = op.d_token_table.as<float>(),
                             .partials = partials,
                             .occurs = occurs,
                             .count = count,
                             .columns = columns,
                             .vocabulary = vocabulary,
                             .accumulate = op.accumulate_tokens};
        for_compute_type(op.d_y.dtype(), [&](auto type) {
            issue_tokens(static_cast<const decltype(type)*>(op.d_y.data()), table, queue);
        });
    }
    if (op.d_position_table.size() > 0) {
        for_compute_type(op.d_y.dtype(), [&](auto type) {
            using T = decltype(type);
            const auto* d_y = static_cast<const T*>(op.d_y.data());
            auto* d_table = op.d_position_table.as<float>();
            launch("EmbeddingBackward",
                   rows_aligned<T>(d_y, d_table, columns) ? position_kernel<T, true>
                                                          : position_kernel<T, false>,
                   {.blocks = warp_tile_blocks(op.d_position_table.rows(), columns, kTile),
                    .threads = kTileThreads,
                    .stream = queue},
                   d_y, d_table, count, op.tokens.columns(), op.d_position_table.rows(), columns);
        });
    }
}

}  // namespace lathe::cuda
