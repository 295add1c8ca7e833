// GELU and SwiGLU, elementwise.
#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp_tile.h"

namespace lathe::cuda {
namespace {

constexpr int kThreads = 256;

/// Packs that a thread loads before it uses the first.
constexpr int kPacks = 2;

/// y = Function::value(x), or with d_y y = d_y Function::slope(x); y may be d_y. One block a
/// multiprocessor is asked for: left to itself, ptxas spills to hold eight.
template <typename T, typename Function, bool kBackward>
__global__ void __launch_bounds__(kThreads, 1)
    gelu_kernel(const T* d_y, const T* x, T* y, int64_t n, bool aligned) {
    constexpr int kSize = Pack<T>::kSize;
    constexpr int kBlockElements = kThreads * kPacks * kSize;
    const auto result = [](T gradient, T value) {
        if constexpr (kBackward) {
            return from_float<T>(to_float(gradient) * Function::slope(to_float(value)));
        } else {
            return from_float<T>(Function::value(to_float(value)));
        }
    };
    const int64_t block = static_cast<int64_t>(blockIdx.x) * kBlockElements;
    if (aligned && block + kBlockElements <= n) {
        const int64_t begin = block + threadIdx.x * kSize;
        Pack<T> packs[kPacks];
        Pack<T> gradients[kPacks];
#pragma unroll
        for (int i = 0; i < kPacks; ++i) {
            packs[i] = Pack<T>::load(x + begin + i * kThreads * kSize);
            if constexpr (kBackward) {
                gradients[i] = Pack<T>::load(d_y + begin + i * kThreads * kSize);
            }
        }
#pragma unroll
        for (int i = 0; i < kPacks; ++i) {
#pragma unroll
            for (int j = 0; j < kSize; ++j) {
                packs[i].values[j] = result(gradients[i].values[j], packs[i].values[j]);
            }
            packs[i].store_global(y + begin + i * kThreads * kSize);
        }
    } else {
        const int64_t end = block + kBlockElements < n ? block + kBlockElements : n;
        for (int64_t i = block + threadIdx.x; i < end; i += kThreads) {
            y[i] = result(kBackward ? d_y[i] : x[i], x[i]);
        }
    }
}

template <typename T, bool kBackward>
void launch_gelu(const char* name, Activation activation, const Tensor& d_y, const Tensor& x,
                 const Tensor& y, cudaStream_t stream) {
    const auto kernel = activation == Activation::gelu_exact ? gelu_kernel<T, GeluExact, kBackward>
                                                             : gelu_kernel<T, GeluTanh, kBackward>;
    constexpr int64_t kBlockElements = int64_t{kThreads} * kPacks * Pack<T>::kSize;
    const int64_t n = x.size();
    if (n > 0) {
        launch(name, kernel,
               {.blocks = static_cast<unsigned>(divide_up(n, kBlockElements)),
                .threads = kThreads,
                .stream = stream},
               static_cast<const T*>(d_y.data()), static_cast<const T*>(x.data()),
               static_cast<T*>(y.data()), n, are_aligned(d_y.data(), x.data(), y.data()));
    }
}

/// Packs of a row that a lane of Swiglu's kernels takes.
constexpr int kRowPacks = 2;

template <typename T>
constexpr int kRowTile = kRowPacks* kWarpSize* Pack<T>::kSize;

/// Calls function(bool constant: whole packs, column, elements) for this lane's packs of a tile,
/// which are kRowPacks, or single elements where rows are not aligned.
template <typename T, typename Function>
__device__ __forceinline__ void each_column(const WarpTile& tile, bool aligned,
                                            Function&& function) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    if (aligned) {
#pragma unroll
        for (int i = 0; i < kRowPacks; ++i) {
            const int64_t column = tile.begin + (i * kWarpSize + lane) * Pack<T>::kSize;
            if (column < tile.end) {
                function(std::true_type{}, column, Pack<T>::kSize);
            }
        }
    } else {
        for (int64_t column = tile.begin + lane; column < tile.end; column += kWarpSize) {
            function(std::false_type{}, column, 1);
        }
    }
}

template <typename T>
__global__ void __launch_bounds__(kTileThreads)
    swiglu_kernel(const T* gate_up, T* y, int64_t rows, int64_t width, bool aligned) {
    const WarpTile tile = warp_tile(rows, width, kRowTile<T>);
    if (tile.row == rows) {
        return;
    }
    const T* gate = gate_up + tile.row * 2 * width;
    each_column<T>(tile, aligned, [&](auto whole, int64_t column, int count) {
        constexpr bool kWhole = decltype(whole)::value;
        const Pack<T> a = load_pack<kWhole>(gate + column, count);
        const Pack<T> b = load_pack<kWhole>(gate + width + column, count);
        Pack<T> result;
#pragma unroll
        for (int j = 0; j < (kWhole ? Pack<T>::kSize : 1); ++j) {
            result.values[j] =
                from_float<T>(Silu::value(to_float(a.values[j])) * to_float(b.values[j]));
        }
        store_pack<kWhole>(y + tile.row * width + column, count, result);
    });
}

/// d_gate_up may be gate_up: each element is read and written by one lane.
template <typename T>
__global__ void __launch_bounds__(kTileThreads)
    swiglu_backward_kernel(const T* d_y, const T* gate_up, T* d_gate_up, int64_t rows,
                           int64_t width, bool aligned) {
    const WarpTile tile = warp_tile(rows, width, kRowTile<T>);
    if (tile.row == rows) {
        return;
    }
    const int64_t row = tile.row * 2 * width;
    each_column<T>(tile, aligned, [&](auto whole, int64_t column, int count) {
        constexpr bool kWhole = decltype(whole)::value;
        const Pack<T> gradient = load_pack<kWhole>(d_y + tile.row * width + column, count);
        Pack<T> a = load_pack<kWhole>(gate_up + row + column, count);
        Pack<T> b = load_pack<kWhole>(gate_up + row + width + column, count);
#pragma unroll
        for (int j = 0; j < (kWhole ? Pack<T>::kSize : 1); ++j) {
            const float d = to_float(gradient.values[j]);
            const float gate = to_float(a.values[j]);
            const float up = to_float(b.values[j]);
            a.values[j] = from_float<T>(d * up * Silu::slope(gate));
            b.values[j] = from_float<T>(d * Silu::value(gate));
        }
        store_pack<kWhole>(d_gate_up + row + column, count, a);
        store_pack<kWhole>(d_gate_up + row + width + column, count, b);
    });
}

}  // namespace

void CudaBackend::execute(const Gelu& op, Stream stream) {
    for_compute_type(op.x.dtype(), [&](auto type) {
        launch_gelu<decltype(type), false>("Gelu", op.activation, {}, op.x, op.y,
                                           this->stream(stream));
    });
}

void CudaBackend::execute(const GeluBackward& op, Stream stream) {
    for_compute_type(op.x.dtype(), [&](auto type) {
        launch_gelu<decltype(type), true>("GeluBackward", op.activation, op.d_y, op.x, op.d_x,
                                          this->stream(stream));
    });
}

void CudaBackend::execute(const Swiglu& op, Stream stream) {
    if (op.y.size() == 0) {
        return;
    }
    for_compute_type(op.y.dtype(), [&](auto type) {
        using T = decltype(type);
        const auto* gate_up = static_cast<const T*>(op.gate_up.data());
        auto* y = static_cast<T*>(op.y.data());
        const int64_t rows = op.gate_up.rows();
        const int64_t width = op.gate_up.columns() / 2;
        launch("Swiglu", swiglu_kernel<T>,
               {.blocks = warp_tile_blocks(rows, width, kRowTile<T>),
                .threads = kTileThreads,
                .stream = this->stream(stream)},
               gate_up, y, rows, width, width % Pack<T>::kSize == 0 && are_aligned(gate_up, y));
    });
}

void CudaBackend::execute(const SwigluBackward& op, Stream stream) {
    if (op.d_y.size() == 0) {
        return;
    }
    for_compute_type(op.d_y.dtype(), [&](auto type) {
        using T = decltype(type);
        const auto* d_y = static_cast<const T*>(op.d_y.data());
        const auto* gate_up = static_cast<const T*>(op.gate_up.data());
        auto* d_gate_up = static_cast<T*>(op.d_gate_up.data());
        const int64_t rows = op.gate_up.rows();
        const int64_t width = op.gate_up.columns() / 2;
        launch("SwigluBackward", swiglu_backward_kernel<T>,
               {.blocks = warp_tile_blocks(rows, width, kRowTile<T>),
                .threads = kTileThreads,
                .stream = this->stream(stream)},
               d_y, gate_up, d_gate_up, rows, width,
               width % Pack<T>::kSize == 0 && are_aligned(d_y, gate_up, d_gate_up));
    });
}

}  // namespace lathe::cuda
