// bf16 products on the tensor cores, f32 sums: a block makes one tile of the output, through stages
// of operands that asynchronous copies fill; a warp holds its part of the tile in registers.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul_epilogue.h"
#include "kernels/cuda/matmul_tile.h"

namespace lathe::cuda {
namespace {

/// How the warps of a block divide its tile.
template <const MatmulTile& kTile, int kWarpRows_, int kWarpColumns_>
struct Shape {
    static constexpr int kRows = kTile.rows;
    static constexpr int kColumns = kTile.columns;
    static constexpr int kDepth = kTile.depth;
    static constexpr int kStages = kTile.stages;
    static constexpr int kWarpRows = kWarpRows_;  ///< of the output, a warp's part
    static constexpr int kWarpColumns = kWarpColumns_;
    static constexpr int kWarps = kRows / kWarpRows * (kColumns / kWarpColumns);
    static constexpr int kThreads = kWarps * kWarpSize;
    static constexpr int64_t kStageBytes = kTile.stage_bytes(sizeof(Bf16));
    /// On a multiprocessor: what the registers of 64 x 64 sums a warp leave room for, and as many
    /// of fewer.
    static constexpr int kBlocks = kWarpRows * kWarpColumns == 64 * 64 ? 8 / kWarps : 4;
};
using Small = Shape<kBf16Small, 32, 32>;
using Medium = Shape<kBf16Medium, 64, 64>;
using Wide = Shape<kBf16Wide, 64, 64>;

/// Where a block's tile begins. Neighbouring blocks share a square of the output rather than a row:
/// their operands then meet in the second-level cache.
template <typename Shape>
__device__ __forceinline__ int2 tile_of_block(int64_t rows, int64_t columns) {
    constexpr int kGroup = 8;
    const int num_rows = static_cast<int>((rows + Shape::kRows - 1) / Shape::kRows);
    const int num_columns = static_cast<int>((columns + Shape::kColumns - 1) / Shape::kColumns);
    const int block = static_cast<int>(blockIdx.x);
    const int first = block / (kGroup * num_columns) * kGroup;
    const int group = min(num_rows - first, kGroup);
    const int within = block % (kGroup * num_columns);
    return {(first + within % group) * Shape::kRows, within / group * Shape::kColumns};
}

/// A warp's part of the tile: sums of 16 x 8 outputs.
template <typename Shape>
struct WarpSums {
    static constexpr int kRowTiles = Shape::kWarpRows / 16;
    static constexpr int kColumnTiles = Shape::kWarpColumns / 8;
    float values[kRowTiles][kColumnTiles][4];
};

/// The main loop: fragments of the next 16 of K' are read while those of this one are multiplied,
/// and operands kStages - 1 slabs ahead are on their way.
template <typename Shape, typename LoaderA, typename LoaderB>
class MainLoop {
  public:
    static constexpr int kBytesOfA = LoaderA::Slab::kBytes;
    static constexpr int kStageBytes = kBytesOfA + LoaderB::Slab::kBytes;

    __device__ __forceinline__ MainLoop(unsigned char* shared, int warp_row, int warp_column)
        : shared_(shared), reader_a_(warp_row), reader_b_(warp_column) {}

    __device__ __forceinline__ void run(LoaderA& a, LoaderB& b, int depth, WarpSums<Shape>& sums) {
#pragma unroll
        for (int stage = 0; stage < Shape::kStages - 1; ++stage) {
            if (stage * Shape::kDepth < depth) {
                unsigned char* to = shared_ + stage * kStageBytes;
                a.template load<Shape::kDepth>(to, depth - stage * Shape::kDepth);
                b.template load<Shape::kDepth>(to + kBytesOfA, depth - stage * Shape::kDepth);
            }
            ptx::commit_copies();
        }
        ptx::wait_copies<Shape::kStages - 2>();
        __syncthreads();
        if (depth > 0) {
            read(shared_, 0);
        }
        unsigned char* stage = shared_;
        unsigned char* const last_stage = shared_ + (Shape::kStages - 1) * kStageBytes;
        for (int left = depth; left > 0; left -= Shape::kDepth) {
            const int left_ahead = left - (Shape::kStages - 1) * Shape::kDepth;
            unsigned char* const free_stage = stage == shared_ ? last_stage : stage - kStageBytes;
#pragma unroll
            for (int step = 0; step < kSteps; ++step) {
                if (step == 0 && left_ahead > 0) {
                    a.template load<Shape::kDepth>(free_stage, left_ahead);
                }
                if (step == 1) {
                    if (left_ahead > 0) {
                        b.template load<Shape::kDepth>(free_stage + kBytesOfA, left_ahead);
                    }
                    ptx::commit_copies();
                }
                if (step + 1 < kSteps) {
                    read(stage, step + 1);
                } else {
                    ptx::wait_copies<Shape::kStages - 2>();
                    __syncthreads();
                    stage = stage == last_stage ? shared_ : stage + kStageBytes;
                    if (left > Shape::kDepth) {
                        read(stage, 0);
                    }
                }
                multiply(step % 2, sums);
            }
        }
    }

  private:
    static constexpr int kSteps = Shape::kDepth / 16;
    static constexpr int kRowTiles = WarpSums<Shape>::kRowTiles;
    static constexpr int kColumnPairs = WarpSums<Shape>::kColumnTiles / 2;
    static_assert(kSteps % 2 == 0, "fragments alternate between two sets");

    __device__ __forceinline__ void read(unsigned char* stage, int step) {
        const uint32_t slab = ptx::shared_address(stage);
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
            reader_a_.read(slab, i, step, a_[step % 2][i]);
        }
#pragma unroll
        for (int i = 0; i < kColumnPairs; ++i) {
            reader_b_.read(slab + kBytesOfA, i, step, b_[step % 2][i]);
        }
    }
    __device__ __forceinline__ void multiply(int set, WarpSums<Shape>& sums) {
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
            for (int j = 0; j < 2 * kColumnPairs; ++j) {
                const uint32_t(&b)[4] = b_[set][j / 2];
                ptx::multiply_accumulate(sums.values[i][j], a_[set][i], b[j % 2 * 2],
                                         b[j % 2 * 2 + 1]);
            }
        }
    }

    unsigned char* shared_;
    FragmentReader<typename LoaderA::Slab, false> reader_a_;
    FragmentReader<typename LoaderB::Slab, true> reader_b_;
    uint32_t a_[2][kRowTiles][4];
    uint32_t b_[2][kColumnPairs][4];
};

/// Takes a warp's sums through its own part of shared memory, 32 rows at a time, so that each lane
/// gets neighbouring columns of one row: 16 bytes of d.
template <typename Shape>
class WarpEpilogue {
  public:
    static constexpr int kBytes = 32 * (Shape::kWarpColumns + 8) * sizeof(float);
    static_assert(Shape::kWarps * kBytes <= Shape::kStageBytes);

    __device__ __forceinline__ WarpEpilogue(unsigned char* shared, const Epilogue& e)
        : sums_(reinterpret_cast<float*>(shared + threadIdx.x / kWarpSize * kBytes)),
          lane_(static_cast<int>(threadIdx.x) % kWarpSize),
          e_(e) {}

    __device__ __forceinline__ void run(const WarpSums<Shape>& sums, int64_t row, int64_t column) {
#pragma unroll 1
        for (int part = 0; part < WarpSums<Shape>::kRowTiles / 2; ++part) {
#pragma unroll
            for (int i = 0; i < WarpSums<Shape>::kRowTiles; ++i) {
                if (i / 2 == part) {
                    put(i % 2 * 16, sums.values[i]);
                }
            }
            __syncwarp();
            if (e_.wide) {
                take<float, 4>(row + part * 32, column);
            } else {
                take<Bf16, 8>(row + part * 32, column);
            }
            __syncwarp();
        }
    }

  private:
    static constexpr int kStride = Shape::kWarpColumns + 8;

    /// Where a column lies in its row. A lane that finishes eight columns reads four and four: all
    /// first fours lie together, then, a bank's width of four further, the second fours; lanes of a
    /// row then meet in no bank.
    __device__ __forceinline__ int place(int column) const {
        const int four = column / 4;
        return e_.wide ? column
                       : four / 2 * 4 + four % 2 * (Shape::kWarpColumns / 2 + 4) + column % 4;
    }
    __device__ __forceinline__ void put(int row,
                                        const float (&tiles)[WarpSums<Shape>::kColumnTiles][4]) {
        float* to = sums_ + (row + lane_ / 4) * kStride;
#pragma unroll
        for (int j = 0; j < WarpSums<Shape>::kColumnTiles; ++j) {
            const int at = place(j * 8 + lane_ % 4 * 2);
            *reinterpret_cast<float2*>(to + at) = make_float2(tiles[j][0], tiles[j][1]);
            *reinterpret_cast<float2*>(to + 8 * kStride + at) =
                make_float2(tiles[j][2], tiles[j][3]);
        }
    }
    template <typename D, int kCount>
    __device__ __forceinline__ void take(int64_t row, int64_t column) const {
        constexpr int kLanes = Shape::kWarpColumns / kCount;  // of one row
        const int at = lane_ % kLanes * kCount;
        const int first = lane_ / kLanes;
        // Two rows that eight lanes read at once lie half of the banks apart.
        const int start = kLanes == 4 ? first / 4 * 4 + first % 2 * 2 + first / 2 % 2 : first;
#pragma unroll 1
        for (int i = start; i < 32; i += kWarpSize / kLanes) {
            float values[kCount];
#pragma unroll
            for (int j = 0; j < kCount; j += 4) {
                const float4 four =
                    *reinterpret_cast<const float4*>(sums_ + i * kStride + place(at + j));
                values[j] = four.x;
                values[j + 1] = four.y;
                values[j + 2] = four.z;
                values[j + 3] = four.w;
            }
            finish<Bf16, D>(e_, row + i, column + at, values);
        }
    }

    float* sums_;
    int lane_;
    Epilogue e_;
};

template <typename Shape, typename LoaderA, typename LoaderB>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    matmul_bf16_kernel(const __grid_constant__ Product p, __grid_constant__ const Epilogue e) {
    extern __shared__ __align__(128) unsigned char shared[];
    const int2 tile = tile_of_block<Shape>(e.rows, e.columns);
    const int64_t begin = blockIdx.y * p.split_depth;
    const int64_t end = min(p.depth, begin + p.split_depth);
    LoaderA a(p.a, tile.x, begin);
    LoaderB b(p.b, tile.y, begin);

    constexpr int kWarpsAcross = Shape::kColumns / Shape::kWarpColumns;
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const int warp_row = warp / kWarpsAcross * Shape::kWarpRows;
    const int warp_column = warp % kWarpsAcross * Shape::kWarpColumns;
    WarpSums<Shape> sums = {};
    MainLoop<Shape, LoaderA, LoaderB>(shared, warp_row, warp_column)
        .run(a, b, static_cast<int>(end - begin), sums);

    // The stages become the epilogue's: the loop's last barrier came after their last reading.
    WarpEpilogue<Shape>(shared, of_part(e, blockIdx.y))
        .run(sums, tile.x + warp_row, tile.y + warp_column);
}

template <typename Shape, typename LoaderA, typename LoaderB>
void launch_tiles(const Product& p, const Epilogue& e, cudaStream_t stream) {
    const int64_t blocks = divide_up(e.rows, Shape::kRows) * divide_up(e.columns, Shape::kColumns);
    launch("Matmul", matmul_bf16_kernel<Shape, LoaderA, LoaderB>,
           {.blocks = dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(p.splits)),
            .threads = dim3(Shape::kThreads),
            .shared_bytes = Shape::kStageBytes,
            .stream = stream},
           p, e);
}

template <typename Shape, bool kDepthContiguousA, bool kDepthContiguousB>
void launch_aligned(const Product& p, const Epilogue& e, cudaStream_t stream) {
    using SlabA = Slab<Shape::kRows, Shape::kDepth, kDepthContiguousA>;
    using SlabB = Slab<Shape::kColumns, Shape::kDepth, kDepthContiguousB>;
    launch_tiles<Shape, AlignedLoader<SlabA, Shape::kThreads>,
                 AlignedLoader<SlabB, Shape::kThreads>>(p, e, stream);
}

/// The forms of training: forward, data gradient, weight gradient.
template <typename Shape>
void launch_form(const Product& p, const Epilogue& e, cudaStream_t stream) {
    if (!p.a.is_depth_contiguous()) {
        launch_aligned<Shape, false, false>(p, e, stream);
    } else if (p.b.is_depth_contiguous()) {
        launch_aligned<Shape, true, true>(p, e, stream);
    } else {
        launch_aligned<Shape, true, false>(p, e, stream);
    }
}

}  // namespace

void multiply_bf16(const Product& p, MatmulKernel kernel, const Epilogue& e, cudaStream_t stream) {
    const bool training_form = p.a.is_depth_contiguous() || !p.b.is_depth_contiguous();
    if (!p.a.aligned || !p.b.aligned) {
        using SlabA = Slab<Small::kRows, Small::kDepth, true>;
        using SlabB = Slab<Small::kColumns, Small::kDepth, true>;
        launch_tiles<Small, ElementLoader<SlabA, Small::kThreads>,
                     ElementLoader<SlabB, Small::kThreads>>(p, e, stream);
    } else if (!training_form) {
        launch_aligned<Small, false, true>(p, e, stream);
    } else if (kernel == MatmulKernel::wide) {
        launch_form<Wide>(p, e, stream);
    } else if (kernel == MatmulKernel::medium) {
        launch_form<Medium>(p, e, stream);
    } else {
        launch_form<Small>(p, e, stream);
    }
}

}  // namespace lathe::cuda
