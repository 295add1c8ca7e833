// Rotary positions, in place. A thread owns a pack of the first half of a head and its partner in
// the second, in one row, and walks the heads: the row's cosines and sines are read once.
#include <algorithm>

#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/launch.h"

namespace lathe::cuda {
namespace {

constexpr int kThreads = 256;
/// Heads that a thread loads before it rotates the first.
constexpr int kLoadedAtOnce = 4;
/// Floats of the angles of a block's rows: 256 threads of at most 8 cosines and 8 sines.
constexpr int kMaxAngles = kThreads * 16;

template <typename T>
struct Rotation {
    T* qkv;
    const float* table;  ///< [time, head_size], of the first position on
    int64_t rows;
    int64_t columns;
    int64_t time;
    int head_size;
    int rotated_heads;
    int rows_per_block = 0;
    int heads_per_group = 0;  ///< that one thread walks
    bool inverse;
};

/// (u, v) turned by the angle.
__device__ __forceinline__ void rotate(float& u, float& v, float cosine, float sine) {
    const float rotated = fmaf(u, cosine, -(v * sine));
    v = fmaf(v, cosine, u * sine);
    u = rotated;
}

/// Where a block keeps the i-th 16 bytes of its rows' angles, so that lanes that take every other
/// one meet no bank conflict.
__device__ __forceinline__ int angle_place(int i) { return i ^ ((i >> 3 ^ i >> 4) & 1); }

/// kSize angles from the element `first` on.
template <bool kWhole, int kSize>
__device__ __forceinline__ void load_angles(const float* from, int first, float (&angles)[kSize]) {
    if constexpr (kWhole) {
        constexpr int kFloats = Pack<float>::kSize;
#pragma unroll
        for (int i = 0; i < kSize / kFloats; ++i) {
            const auto pack = Pack<float>::load(from + angle_place(first / kFloats + i) * kFloats);
#pragma unroll
            for (int j = 0; j < kFloats; ++j) {
                angles[i * kFloats + j] = pack.values[j];
            }
        }
    } else {
        angles[0] = from[first];
    }
}

/// Turns this thread's elements of heads [first, end); `head` is where they begin in head 0.
template <typename T, bool kWhole, int kSize>
__device__ __forceinline__ void rotate_heads(const Rotation<T>& op, T* head_0, int first, int end,
                                             const float (&cosine)[kSize],
                                             const float (&sine)[kSize]) {
    const int half = op.head_size / 2;
    for (int head = first; head < end; head += kLoadedAtOnce) {
        T* at = head_0 + static_cast<int64_t>(head) * op.head_size;
        Pack<T> u[kLoadedAtOnce];
        Pack<T> v[kLoadedAtOnce];
#pragma unroll
        for (int i = 0; i < kLoadedAtOnce; ++i) {
            if (head + i < end) {
                u[i] = load_pack<kWhole>(at + i * op.head_size, kSize);
                v[i] = load_pack<kWhole>(at + i * op.head_size + half, kSize);
            }
        }
#pragma unroll
        for (int i = 0; i < kLoadedAtOnce; ++i) {
            if (head + i < end) {
#pragma unroll
                for (int j = 0; j < kSize; ++j) {
                    float a = to_float(u[i].values[j]);
                    float b = to_float(v[i].values[j]);
                    rotate(a, b, cosine[j], sine[j]);
                    u[i].values[j] = from_float<T>(a);
                    v[i].values[j] = from_float<T>(b);
                }
                store_pack<kWhole>(at + i * op.head_size, kSize, u[i]);
                store_pack<kWhole>(at + i * op.head_size + half, kSize, v[i]);
            }
        }
    }
}

/// Block (x, y): rows_per_block rows, group y of heads. kWhole: by packs, else by elements.
template <typename T, bool kWhole>
__global__ void __launch_bounds__(kThreads) rotary_kernel(Rotation<T> op) {
    constexpr int kSize = kWhole ? Pack<T>::kSize : 1;
    __shared__ __align__(16) float shared[kWhole ? kMaxAngles : 1];
    const int thread = static_cast<int>(threadIdx.x);
    const int packs = op.head_size / 2 / kSize;
    const int64_t first_row = static_cast<int64_t>(blockIdx.x) * op.rows_per_block;
    if constexpr (kWhole) {
        constexpr int kFloats = Pack<float>::kSize;
        const int per_row = op.head_size / kFloats;
        for (int i = thread; i < op.rows_per_block * per_row; i += kThreads) {
            const int64_t position = (first_row + i / per_row) % op.time;
            Pack<float>::load(op.table + position * op.head_size + i % per_row * kFloats)
                .store(shared + angle_place(i) * kFloats);
        }
        __syncthreads();
    }
    // The last threads of a block may be without a row, where packs do not divide 256.
    const int row_of_block = thread / packs;
    const int64_t row = first_row + row_of_block;
    if (row_of_block >= op.rows_per_block || row >= op.rows) {
        return;
    }
    const int column = thread % packs * kSize;
    const float* angles = kWhole ? shared : op.table + row % op.time * op.head_size;
    const int first_angle = (kWhole ? row_of_block * op.head_size : 0) + column;
    float cosine[kSize];
    float sine[kSize];
    load_angles<kWhole>(angles, first_angle, cosine);
    load_angles<kWhole>(angles, first_angle + op.head_size / 2, sine);
#pragma unroll
    for (int j = 0; j < kSize; ++j) {
        sine[j] = op.inverse ? -sine[j] : sine[j];
    }
    const int first = static_cast<int>(blockIdx.y) * op.heads_per_group;
    rotate_heads<T, kWhole>(op, op.qkv + row * op.columns + column, first,
                            min(first + op.heads_per_group, op.rotated_heads), cosine, sine);
}

}  // namespace

void CudaBackend::execute(const Rotary& op, Stream stream) {
    if (op.qkv.size() == 0) {
        return;
    }
    for_compute_type(op.qkv.dtype(), [&](auto type) {
        using T = decltype(type);
        const auto head_size = static_cast<int>(op.heads.head_size);
        Rotation<T> rotation = {
            .qkv = static_cast<T*>(op.qkv.data()),
            .table = op.table.as<float>() + op.first_position * head_size,
            .rows = op.qkv.rows(),
            .columns = op.qkv.columns(),
            .time = op.qkv.shape()[1],
            .head_size = head_size,
            .rotated_heads = static_cast<int>(op.heads.heads + op.heads.kv_heads),
            .inverse = op.inverse,
        };
        const bool whole =
            head_size / 2 % Pack<T>::kSize == 0 && are_aligned(rotation.qkv, rotation.table) &&
            rotation.columns % Pack<T>::kSize == 0 && head_size / 2 / Pack<T>::kSize <= kThreads;
        const int packs = head_size / 2 / (whole ? Pack<T>::kSize : 1);
        LATHE_CHECK(packs <= kThreads, "Rotary: head_size {} should be at most {}", head_size,
                    2 * kThreads);
        rotation.rows_per_block = kThreads / packs;
        const int64_t blocks = divide_up(rotation.rows, rotation.rows_per_block);
        // A thread walks all heads, unless that leaves multiprocessors without a block: each group
        // of heads reads the angles again.
        const int64_t groups =
            std::clamp<int64_t>(divide_up(profile_.num_multiprocessors, blocks), 1,
                                divide_up(rotation.rotated_heads, kLoadedAtOnce));
        rotation.heads_per_group = static_cast<int>(divide_up(rotation.rotated_heads, groups));
        launch("Rotary", whole ? rotary_kernel<T, true> : rotary_kernel<T, false>,
               {.blocks = dim3(static_cast<unsigned>(blocks),
                               static_cast<unsigned>(
                                   divide_up(rotation.rotated_heads, rotation.heads_per_group))),
                .threads = kThreads,
                .stream = this->stream(stream)},
               rotation);
    });
}

}  // namespace lathe::cuda
