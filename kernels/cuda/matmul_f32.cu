// f32 products by fused multiply-adds: a block makes one tile of the output, a thread 8 x 8 of it,
// from operands in shared memory that lie along M (N) whatever they do in global memory.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul_epilogue.h"
#include "kernels/cuda/reduce.h"

namespace lathe::cuda {
namespace {

constexpr int kDepth = kF32Medium.depth;
static_assert(kF32Small.depth == kDepth);
// A warp's part of the tile: 4 x 8 lanes of twice four rows by twice four columns.
constexpr int kWarpRows = 32;
constexpr int kWarpColumns = 64;

template <const MatmulTile& kTile>
struct Shape {
    static constexpr int kRows = kTile.rows;
    static constexpr int kColumns = kTile.columns;
    static constexpr int kThreads = kRows / kWarpRows * (kColumns / kWarpColumns) * kWarpSize;
};

/// One stage of one operand: kExtent of M (N) by kDepth. Rows are four banks longer than they need
/// be, so that a transposing store meets no bank twice.
template <int kExtent>
struct Slab {
    float values[kDepth][kExtent + 4];
};

/// Brings an operand's slabs in through registers: the loads of one are issued before the products
/// of the slab before, the stores come after. What lies outside of the operand becomes zero.
template <int kExtent, int kThreads>
class Loader {
  public:
    __device__ __forceinline__ Loader(const Operand& operand, int64_t first, int64_t begin,
                                      int64_t end)
        : operand_(operand),
          from_(static_cast<const float*>(operand.data) + first * operand.extent_stride +
                begin * operand.depth_stride),
          extent_left_(operand.extent - first),
          depth_left_(end - begin) {}

    __device__ __forceinline__ void load() {
#pragma unroll
        for (int i = 0; i < kFours; ++i) {
            const Place place = place_of(i);
            const float* from =
                from_ + place.extent * operand_.extent_stride + place.depth * operand_.depth_stride;
            int64_t left = depth_left_ - place.depth;
            int64_t across_left = extent_left_ - place.extent;
            if (!operand_.is_depth_contiguous()) {
                const int64_t depth_left = left;
                left = across_left;
                across_left = depth_left;
            }
            const int count = across_left > 0 ? static_cast<int>(min(left, int64_t{4})) : 0;
            if (count > 0) {
                load_group(from, operand_.aligned && count == 4, count, fours_[i]);
            } else {
                fours_[i][0] = fours_[i][1] = fours_[i][2] = fours_[i][3] = 0.0F;
            }
        }
        from_ += kDepth * operand_.depth_stride;
        depth_left_ -= kDepth;
    }

    __device__ __forceinline__ void store(Slab<kExtent>& slab) const {
#pragma unroll
        for (int i = 0; i < kFours; ++i) {
            const Place place = place_of(i);
            const float(&v)[4] = fours_[i];
            if (operand_.is_depth_contiguous()) {
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    slab.values[place.depth + j][place.extent] = v[j];
                }
            } else {
                *reinterpret_cast<float4*>(&slab.values[place.depth][place.extent]) =
                    make_float4(v[0], v[1], v[2], v[3]);
            }
        }
    }

  private:
    static constexpr int kFours = kExtent * kDepth / 4 / kThreads;

    struct Place {
        int extent;
        int depth;
    };
    /// Where this thread's i-th four contiguous elements begin. Along K' two threads take the 32
    /// bytes of a sector, and sixteen rows a warp: their stores then meet in no bank.
    __device__ __forceinline__ Place place_of(int i) const {
        const int index = static_cast<int>(threadIdx.x) + i * kThreads;
        if (operand_.is_depth_contiguous()) {
            return {index / 2 % kExtent, index / (2 * kExtent) * 8 + index % 2 * 4};
        }
        return {index % (kExtent / 4) * 4, index / (kExtent / 4)};
    }

    Operand operand_;
    const float* from_;
    int64_t extent_left_;
    int64_t depth_left_;
    float fours_[kFours][4];
};

/// Eight numbers of a thread: four, and four `kApart` further.
template <int kApart>
__device__ __forceinline__ void read_eight(const float* from, float (&values)[8]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float4 four = *reinterpret_cast<const float4*>(from + half * kApart);
        values[4 * half] = four.x;
        values[4 * half + 1] = four.y;
        values[4 * half + 2] = four.z;
        values[4 * half + 3] = four.w;
    }
}

template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    matmul_f32_kernel(const __grid_constant__ Product p, const __grid_constant__ Epilogue e) {
    __shared__ __align__(16) Slab<Shape::kRows> slabs_a[2];
    __shared__ __align__(16) Slab<Shape::kColumns> slabs_b[2];
    const int num_columns = static_cast<int>((e.columns + Shape::kColumns - 1) / Shape::kColumns);
    const int64_t tile_row = int64_t{blockIdx.x / num_columns} * Shape::kRows;
    const int64_t tile_column = int64_t{blockIdx.x % num_columns} * Shape::kColumns;
    const int64_t begin = blockIdx.y * p.split_depth;
    const int64_t end = min(p.depth, begin + p.split_depth);
    Loader<Shape::kRows, Shape::kThreads> a(p.a, tile_row, begin, end);
    Loader<Shape::kColumns, Shape::kThreads> b(p.b, tile_column, begin, end);

    constexpr int kWarpsAcross = Shape::kColumns / kWarpColumns;
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int row = warp / kWarpsAcross * kWarpRows + lane / 8 * 4;
    const int column = warp % kWarpsAcross * kWarpColumns + lane % 8 * 4;
    float sums[8][8] = {};
    a.load();
    b.load();
    const int num_slabs = static_cast<int>((end - begin + kDepth - 1) / kDepth);
    for (int slab = 0; slab < num_slabs; ++slab) {
        a.store(slabs_a[slab % 2]);
        b.store(slabs_b[slab % 2]);
        __syncthreads();
        if (slab + 1 < num_slabs) {
            a.load();
            b.load();
        }
#pragma unroll
        for (int k = 0; k < kDepth; ++k) {
            float x[8];
            float y[8];
            read_eight<kWarpRows / 2>(&slabs_a[slab % 2].values[k][row], x);
            read_eight<kWarpColumns / 2>(&slabs_b[slab % 2].values[k][column], y);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
#pragma unroll
                for (int j = 0; j < 8; ++j) {
                    sums[i][j] = fmaf(x[i], y[j], sums[i][j]);
                }
            }
        }
    }

    const Epilogue own = of_part(e, blockIdx.y);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int64_t d_row = tile_row + row + i / 4 * (kWarpRows / 2) + i % 4;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float four[4] = {sums[i][4 * half], sums[i][4 * half + 1], sums[i][4 * half + 2],
                             sums[i][4 * half + 3]};
            finish<float, float>(own, d_row, tile_column + column + half * (kWarpColumns / 2),
                                 four);
        }
    }
}

template <typename Shape>
void launch_tiles(const Product& p, const Epilogue& e, cudaStream_t stream) {
    const int64_t blocks = divide_up(e.rows, Shape::kRows) * divide_up(e.columns, Shape::kColumns);
    launch("Matmul", matmul_f32_kernel<Shape>,
           {.blocks = dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(p.splits)),
            .threads = dim3(Shape::kThreads),
            .stream = stream},
           p, e);
}

}  // namespace

void multiply_f32(const Product& p, MatmulKernel kernel, const Epilogue& e, cudaStream_t stream) {
    if (kernel == MatmulKernel::medium) {
        launch_tiles<Shape<kF32Medium>>(p, e, stream);
    } else {
        launch_tiles<Shape<kF32Small>>(p, e, stream);
    }
}

}  // namespace lathe::cuda
