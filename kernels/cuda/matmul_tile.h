// Tiles of bf16 operands on their way from global memory to the tensor cores.
//
// One stage of an operand in shared memory is a slab of 16-byte pieces, laid out as in global
// memory: along K' or along M (N). The pieces of a row are permuted, XOR with the row's number, so
// that eight pieces of one column, which ldmatrix reads at once, lie in different banks.
#pragma once

#include <cstdint>

#include "kernels/cuda/element.h"
#include "kernels/cuda/matmul_kernels.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/reduce.h"

namespace lathe::cuda {

inline constexpr int kPiece = 8;  ///< bf16 elements in 16 bytes

template <int kExtent, int kDepth, bool kDepthContiguous>
struct Slab {
    static constexpr bool kAlongDepth = kDepthContiguous;
    static constexpr int kRows = kDepthContiguous ? kExtent : kDepth;
    static constexpr int kPieces = (kDepthContiguous ? kDepth : kExtent) / kPiece;  ///< of a row
    static constexpr int kRowBytes = kPieces * 16;
    static constexpr int kBytes = kRows * kRowBytes;
    static_assert(kPieces >= 4 && kBytes % 128 == 0);

    /// What the pieces of a row are XORed with. Rows of 64 bytes share 128 bytes by twos.
    static __device__ __forceinline__ int turn(int row) {
        return kPieces == 4 ? row / 2 % 4 : row % 8;
    }
    static __device__ __forceinline__ uint32_t offset(int row, int piece) {
        return static_cast<uint32_t>(row * kRowBytes + (piece ^ turn(row)) * 16);
    }
};

/// Brings an operand's slabs in, one after the other along K', by asynchronous 16-byte copies. What
/// lies outside of the operand becomes zero.
template <typename SlabType, int kThreads>
class AlignedLoader {
  public:
    using Slab = SlabType;

    /// From element (first, begin) of the operand.
    __device__ __forceinline__ AlignedLoader(const Operand& operand, int64_t first, int64_t begin)
        : piece_(static_cast<int>(threadIdx.x) % Slab::kPieces),
          row_(static_cast<int>(threadIdx.x) / Slab::kPieces),
          stride_(
              static_cast<int>(Slab::kAlongDepth ? operand.extent_stride : operand.depth_stride)),
          extent_left_(static_cast<int>(operand.extent - first)) {
        const int64_t row = Slab::kAlongDepth ? first : begin;
        const int64_t column = Slab::kAlongDepth ? begin : first;
        from_ = static_cast<const Bf16*>(operand.data) + (row + row_) * stride_ + column +
                piece_ * kPiece;
    }

    /// The next slab, of whose depth `depth_left` is there.
    template <int kDepth>
    __device__ __forceinline__ void load(unsigned char* slab, int depth_left) {
        const uint32_t shared = ptx::shared_address(slab);
        const int columns_left = Slab::kAlongDepth ? depth_left : extent_left_;
        const int rows_left = Slab::kAlongDepth ? extent_left_ : depth_left;
        // Rows that this thread may read: none where its piece lies outside.
        const int rows = piece_ * kPiece < columns_left ? rows_left : 0;
#pragma unroll
        for (int i = 0; i < kCopies; ++i) {
            const int row = row_ + i * kRowStep;
            ptx::copy_async_16(shared + Slab::offset(row, piece_),
                               from_ + int64_t{stride_} * (i * kRowStep), row < rows);
        }
        from_ += Slab::kAlongDepth ? kDepth : int64_t{stride_} * kDepth;
    }

  private:
    static constexpr int kRowStep = kThreads / Slab::kPieces;
    static constexpr int kCopies = Slab::kRows / kRowStep;
    static_assert(kThreads % Slab::kPieces == 0 && Slab::kRows % kRowStep == 0);

    int piece_;
    int row_;
    int stride_;
    int extent_left_;
    const Bf16* from_;
};

/// The same by loads of single elements: any alignment, either dimension contiguous. The slab lies
/// along K'.
template <typename SlabType, int kThreads>
class ElementLoader {
  public:
    using Slab = SlabType;

    __device__ __forceinline__ ElementLoader(const Operand& operand, int64_t first, int64_t begin)
        : extent_stride_(operand.extent_stride),
          depth_stride_(operand.depth_stride),
          extent_left_(static_cast<int>(operand.extent - first)),
          from_(static_cast<const Bf16*>(operand.data) + first * extent_stride_ +
                begin * depth_stride_) {}

    template <int kDepth>
    __device__ __forceinline__ void load(unsigned char* slab, int depth_left) {
        static_assert(Slab::kAlongDepth && Slab::kRows * Slab::kPieces % kThreads == 0);
#pragma unroll 1
        for (int i = 0; i < Slab::kRows * Slab::kPieces / kThreads; ++i) {
            // Neighbouring threads read neighbouring elements.
            const int index = static_cast<int>(threadIdx.x) + i * kThreads;
            const int row = depth_stride_ == 1 ? index / Slab::kPieces : index % Slab::kRows;
            const int piece = depth_stride_ == 1 ? index % Slab::kPieces : index / Slab::kRows;
            const Bf16* from = from_ + row * extent_stride_ + piece * kPiece * depth_stride_;
            Pack<Bf16> pack;
#pragma unroll
            for (int j = 0; j < kPiece; ++j) {
                const bool valid = row < extent_left_ && piece * kPiece + j < depth_left;
                pack.values[j] = valid ? from[j * depth_stride_] : from_float<Bf16>(0.0F);
            }
            pack.store(reinterpret_cast<Bf16*>(slab + Slab::offset(row, piece)));
        }
        from_ += kDepth * depth_stride_;
    }

  private:
    int64_t extent_stride_;
    int64_t depth_stride_;
    int extent_left_;
    const Bf16* from_;
};

/// Reads a warp's fragments from slabs: 16 of M or N by 16 of K' at once. kSecondAlongDepth: how
/// the four 8x8 matrices are numbered: the second lies further along K' (b) or along M (a).
template <typename Slab, bool kSecondAlongDepth>
class FragmentReader {
  public:
    /// `first`: where the warp's part of the tile begins, a multiple of 32.
    __device__ __forceinline__ explicit FragmentReader(int first) {
        const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
        const int second = lane / 8 % 2;
        const int third = lane / 16;
        const int along_depth = kSecondAlongDepth ? second : third;
        const int along_extent = kSecondAlongDepth ? third : second;
        const int row =
            Slab::kAlongDepth ? first + along_extent * 8 + lane % 8 : along_depth * 8 + lane % 8;
        const int piece = Slab::kAlongDepth ? along_depth : first / kPiece + along_extent;
        offset_ = Slab::offset(row, piece);
    }

    /// The fragment `i` sixteens along M or N and `j` sixteens along K' from the beginning.
    __device__ __forceinline__ void read(uint32_t slab, int i, int j,
                                         uint32_t (&fragment)[4]) const {
        // Sixteen rows further the pieces are permuted alike. Two pieces further is an XOR, as
        // `first` is a multiple of 32 and slabs begin on 128 bytes: one register serves all.
        const int rows = 16 * (Slab::kAlongDepth ? i : j);
        const int pieces = 2 * (Slab::kAlongDepth ? j : i);
        const uint32_t address = ((slab + offset_) ^ static_cast<uint32_t>(pieces * 16)) +
                                 static_cast<uint32_t>(rows * Slab::kRowBytes);
        if constexpr (Slab::kAlongDepth) {
            ptx::load_matrices(fragment, address);
        } else {
            ptx::load_matrices_transposed(fragment, address);
        }
    }

  private:
    uint32_t offset_;
};

}  // namespace lathe::cuda
