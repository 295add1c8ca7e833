// Products of few rows, as in generation: bound by reading b, which is read once, in 16-byte pieces
// that go straight to registers.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul_epilogue.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/reduce.h"

namespace lathe::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;

/// The 16 bytes of an operand's row `extent` at `depth` of K'; zeros outside of it.
template <typename T>
__device__ __forceinline__ uint4 load_piece(const Operand& operand, int64_t extent, int64_t depth,
                                            int64_t depth_end) {
    if (extent >= operand.extent || depth >= depth_end) {
        return make_uint4(0, 0, 0, 0);
    }
    return *reinterpret_cast<const uint4*>(static_cast<const T*>(operand.data) +
                                           extent * operand.extent_stride + depth);
}

/// Adds the warps' sums of each output in order, and finishes it. `sums`: [kWarps][kMostFewRows]
/// [kStride].
template <int kColumns, int kStride>
__device__ __forceinline__ void finish_block(const Epilogue& e, const float* sums,
                                             int64_t first_column) {
    const int count = static_cast<int>(e.rows) * kColumns;
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
        const int row = i / kColumns;
        const int column = i % kColumns;
        float sum[1] = {0.0F};
#pragma unroll
        for (int warp = 0; warp < kWarps; ++warp) {
            sum[0] += sums[(warp * kMostFewRows + row) * kStride + column];
        }
        if (e.wide) {
            finish<Bf16, float>(e, row, first_column + column, sum);
        } else {
            finish<Bf16, Bf16>(e, row, first_column + column, sum);
        }
    }
}

/// The tensor cores multiply 16 rows of b by 8 of a. They take K' in any order, if both operands
/// have the same: lane t of four holds elements 8t .. 8t + 7 of 32, its 16 bytes, and gives the
/// first four of them to one product, the others to the next. The warps of a block take 32 of K'
/// in turn.
template <int kTiles>
__global__ void __launch_bounds__(kThreads, 2)
    few_rows_bf16_kernel(const __grid_constant__ Product p, const __grid_constant__ Epilogue e) {
    constexpr int kColumns = 16 * kTiles;
    constexpr int kStride = kColumns + 4;
    constexpr int kAhead = 4 / kTiles;  // of b, 128 bytes a lane are under way
    __shared__ float sums[kWarps * kMostFewRows * kStride];
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int g = lane / 4;
    const int64_t first = int64_t{blockIdx.x} * kColumns;
    const bool two = e.rows > 8;
    float c[kTiles][2][4] = {};
    for (int64_t begin = warp * 32; begin < p.depth; begin += kAhead * kWarps * 32) {
        uint4 b[kAhead][kTiles][2];
        uint4 a[kAhead][2];
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
            const int64_t depth = begin + i * kWarps * 32 + lane % 4 * 8;
#pragma unroll
            for (int tile = 0; tile < kTiles; ++tile) {
                b[i][tile][0] = load_piece<Bf16>(p.b, first + tile * 16 + g, depth, p.depth);
                b[i][tile][1] = load_piece<Bf16>(p.b, first + tile * 16 + g + 8, depth, p.depth);
            }
            a[i][0] = load_piece<Bf16>(p.a, g, depth, p.depth);
            a[i][1] = load_piece<Bf16>(p.a, g + 8, depth, p.depth);
        }
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
#pragma unroll
            for (int tile = 0; tile < kTiles; ++tile) {
                const uint4 low = b[i][tile][0];
                const uint4 high = b[i][tile][1];
                const uint32_t one[4] = {low.x, high.x, low.y, high.y};
                const uint32_t other[4] = {low.z, high.z, low.w, high.w};
                ptx::multiply_accumulate(c[tile][0], one, a[i][0].x, a[i][0].y);
                ptx::multiply_accumulate(c[tile][0], other, a[i][0].z, a[i][0].w);
                if (two) {
                    ptx::multiply_accumulate(c[tile][1], one, a[i][1].x, a[i][1].y);
                    ptx::multiply_accumulate(c[tile][1], other, a[i][1].z, a[i][1].w);
                }
            }
        }
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {  // i / 4: which eight rows of a
            const int row = i / 4 * 8 + lane % 4 * 2 + i % 2;
            const int column = tile * 16 + g + i / 2 % 2 * 8;
            sums[(warp * kMostFewRows + row) * kStride + column] = c[tile][i / 4][i % 4];
        }
    }
    __syncthreads();
    finish_block<kColumns, kStride>(e, sums, first);
}

/// Adds each of kCount (a power of two) numbers over the warp: in each step two lanes share out
/// what they hold, so that few shuffles serve many sums. Afterwards the first max(kCount / 32, 1)
/// of a lane are the sums from number lane * kCount / 32 on.
template <int kOffset = kWarpSize / 2, int kCount>
__device__ __forceinline__ void share_out_sums(float (&values)[kCount]) {
    constexpr int kHalf = kCount * kOffset / kWarpSize;  // of what a lane still holds
    const bool upper = (threadIdx.x & kOffset) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
        const float low = values[i];
        const float high = values[i + kHalf];
        values[i] = (upper ? high : low) + __shfl_xor_sync(kFullWarp, upper ? low : high, kOffset);
    }
    if constexpr (kHalf == 0) {
        values[0] += __shfl_xor_sync(kFullWarp, values[0], kOffset);
    }
    if constexpr (kOffset > 1) {
        share_out_sums<kOffset / 2>(values);
    }
}

constexpr int kF32Warps = 4;
constexpr int kF32Columns = 4;  // of a warp

/// A warp makes kF32Columns outputs of each row of a; a lane takes four of K' in turn.
template <int kRows>
__global__ void __launch_bounds__(kF32Warps* kWarpSize, 3)
    few_rows_f32_kernel(const __grid_constant__ Product p, const __grid_constant__ Epilogue e) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int64_t warp = int64_t{blockIdx.x} * kF32Warps + threadIdx.x / kWarpSize;
    const int64_t first = warp * kF32Columns;
    float c[kRows * kF32Columns] = {};
    for (int64_t depth = lane * 4; depth < p.depth; depth += kWarpSize * 4) {
        uint4 b[kF32Columns];
#pragma unroll
        for (int j = 0; j < kF32Columns; ++j) {
            b[j] = load_piece<float>(p.b, first + j, depth, p.depth);
        }
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
            const uint4 a = load_piece<float>(p.a, i, depth, p.depth);
#pragma unroll
            for (int j = 0; j < kF32Columns; ++j) {
                float& sum = c[i * kF32Columns + j];
                sum = fmaf(__uint_as_float(a.x), __uint_as_float(b[j].x), sum);
                sum = fmaf(__uint_as_float(a.y), __uint_as_float(b[j].y), sum);
                sum = fmaf(__uint_as_float(a.z), __uint_as_float(b[j].z), sum);
                sum = fmaf(__uint_as_float(a.w), __uint_as_float(b[j].w), sum);
            }
        }
    }
    share_out_sums(c);
    constexpr int kSums = kRows * kF32Columns;
    constexpr int kCount = kSums > kWarpSize ? kSums / kWarpSize : 1;  // that this lane holds
    const int number = lane * kSums / kWarpSize;
    if (lane % (kCount * kWarpSize / kSums) == 0) {
        float sums[kCount];
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            sums[i] = c[i];
        }
        finish<float, float>(e, number / kF32Columns, first + number % kF32Columns, sums);
    }
}

template <typename Kernel>
void launch_columns(Kernel* kernel, int64_t columns_per_block, int threads, const Product& p,
                    const Epilogue& e, cudaStream_t stream) {
    launch("Matmul", kernel,
           {.blocks = dim3(static_cast<unsigned>(divide_up(e.columns, columns_per_block))),
            .threads = dim3(static_cast<unsigned>(threads)),
            .stream = stream},
           p, e);
}

}  // namespace

void multiply_few_rows(DType compute, const Product& p, const Epilogue& e, cudaStream_t stream) {
    constexpr int64_t kManyColumns = 8192;
    constexpr int64_t kFewest = 4;
    constexpr int64_t kF32BlockColumns = kF32Warps * kF32Columns;
    if (compute == DType::bf16 && e.columns < kManyColumns) {
        launch_columns(few_rows_bf16_kernel<1>, 16, kThreads, p, e, stream);
    } else if (compute == DType::bf16) {
        launch_columns(few_rows_bf16_kernel<2>, 32, kThreads, p, e, stream);
    } else if (e.rows <= kFewest) {
        launch_columns(few_rows_f32_kernel<kFewest>, kF32BlockColumns, kF32Warps * kWarpSize, p, e,
                       stream);
    } else {
        launch_columns(few_rows_f32_kernel<kMostFewRows>, kF32BlockColumns, kF32Warps * kWarpSize,
                       p, e, stream);
    }
}

}  // namespace lathe::cuda
