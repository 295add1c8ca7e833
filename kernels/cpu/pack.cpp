#include "kernels/cpu/pack.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/pack.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

/// Widest transposition into rows some 2 KiB apart, of which a first-level cache keeps no more
/// lines at once than 8 to 16.
using LeftHalves = hn::CappedTag<uint16_t, 8>;
using LeftWords = hn::CappedTag<uint32_t, 8>;

using Bytes = std::byte*;
using ConstBytes = const std::byte*;

/// Stores the 16-byte blocks of v at `to`, `to + stride`, ...
template <typename D>
HWY_INLINE void store_blocks(D d, hn::Vec<D> v, Bytes to, int64_t stride) {
    constexpr int64_t kBlocks = sizeof(hn::TFromD<D>) * hn::MaxLanes(D()) / 16;
    if constexpr (kBlocks == 1) {
        hn::StoreU(v, d, reinterpret_cast<hn::TFromD<D>*>(to));
    } else {
        const hn::Half<D> half;
        store_blocks(half, hn::LowerHalf(half, v), to, stride);
        store_blocks(half, hn::UpperHalf(half, v), to + kBlocks / 2 * stride, stride);
    }
}

/// What is transposed: destination[j][i] = source[i][j]; strides in bytes.
struct Transposition {
    ConstBytes source;
    int64_t source_stride;
    Bytes destination;
    int64_t destination_stride;

    template <typename D>
    HWY_INLINE hn::Vec<D> load_row(D d, int64_t i, int64_t j) const {
        using T = hn::TFromD<D>;
        return hn::LoadU(d, reinterpret_cast<const T*>(source + i * source_stride) + j);
    }
    Bytes at(int64_t j, int64_t i, int64_t element_bytes) const {
        return destination + j * destination_stride + i * element_bytes;
    }
    void copy_element(int64_t i, int64_t j, size_t bytes) const {
        const auto size = static_cast<int64_t>(bytes);
        std::memcpy(at(j, i, size), source + i * source_stride + j * size, bytes);
    }
};

/// Interleaves as elements of type E: rows 2r and 2r + 1 of each 16-byte block.
template <typename E, typename D>
HWY_INLINE void zip(D d, hn::Vec<D> a, hn::Vec<D> b, hn::Vec<D>& low, hn::Vec<D>& high) {
    const hn::Repartition<E, D> e;
    low = hn::BitCast(d, hn::InterleaveLower(e, hn::BitCast(e, a), hn::BitCast(e, b)));
    high = hn::BitCast(d, hn::InterleaveUpper(e, hn::BitCast(e, a), hn::BitCast(e, b)));
}

/// Four rows from (i, j) on, of d's width: elements of 4 bytes.
template <typename D>
HWY_INLINE void transpose_words_block(D d, const Transposition& t, int64_t i, int64_t j) {
    hn::Vec<D> pair[4];
    hn::Vec<D> column[4];
    for (int r = 0; r < 2; ++r) {
        zip<uint32_t>(d, t.load_row(d, i + 2 * r, j), t.load_row(d, i + 2 * r + 1, j), pair[r],
                      pair[2 + r]);
    }
    zip<uint64_t>(d, pair[0], pair[1], column[0], column[1]);
    zip<uint64_t>(d, pair[2], pair[3], column[2], column[3]);
    for (int c = 0; c < 4; ++c) {
        store_blocks(d, column[c], t.at(j + c, i, 4), 4 * t.destination_stride);
    }
}

/// Eight rows from (i, j) on, of d's width: elements of 2 bytes. Pairs, fours, eights: after each
/// step a 16-byte block holds twice the rows of half the columns.
template <typename D>
HWY_INLINE void transpose_halves_block(D d, const Transposition& t, int64_t i, int64_t j) {
    hn::Vec<D> pair[8];
    hn::Vec<D> four[8];
    for (int r = 0; r < 4; ++r) {
        zip<uint16_t>(d, t.load_row(d, i + 2 * r, j), t.load_row(d, i + 2 * r + 1, j), pair[r],
                      pair[4 + r]);
    }
    for (int half = 0; half < 2; ++half) {
        for (int r = 0; r < 2; ++r) {
            zip<uint32_t>(d, pair[4 * half + 2 * r], pair[4 * half + 2 * r + 1], four[4 * half + r],
                          four[4 * half + 2 + r]);
        }
    }
    for (int pairs = 0; pairs < 4; ++pairs) {
        hn::Vec<D> even;
        hn::Vec<D> odd;
        zip<uint64_t>(d, four[2 * pairs], four[2 * pairs + 1], even, odd);
        store_blocks(d, even, t.at(j + 2 * pairs, i, 2), 8 * t.destination_stride);
        store_blocks(d, odd, t.at(j + 2 * pairs + 1, i, 2), 8 * t.destination_stride);
    }
}

/// Columns from j on, as many as whole vectors of d hold; returns the first that is left.
template <int64_t kRows, typename D, typename Block>
HWY_INLINE int64_t transpose_columns(D d, const Transposition& t, int64_t j, int64_t rows,
                                     int64_t columns, const Block& block) {
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    for (; j + lanes <= columns; j += lanes) {
        int64_t i = 0;
        for (; i + kRows <= rows; i += kRows) {
            block(d, t, i, j);
        }
        for (; i < rows; ++i) {
            for (int64_t jj = j; jj < j + lanes; ++jj) {
                t.copy_element(i, jj, sizeof(hn::TFromD<D>));
            }
        }
    }
    return j;
}

template <int64_t kRows, typename T, typename D, typename Block>
HWY_INLINE void transpose(D wide, const Transposition& t, int64_t rows, int64_t columns,
                          const Block& block) {
    int64_t j = transpose_columns<kRows>(wide, t, 0, rows, columns, block);
    j = transpose_columns<kRows>(hn::Full128<T>(), t, j, rows, columns, block);
    for (; j < columns; ++j) {
        for (int64_t i = 0; i < rows; ++i) {
            t.copy_element(i, j, sizeof(T));
        }
    }
}

/// i < rows, j < columns, elements of 4 bytes. D: no wider than the lines that a first-level cache
/// keeps at the destination's stride.
template <typename D>
void transpose_words(D d, const Transposition& t, int64_t rows, int64_t columns) {
    transpose<4, uint32_t>(d, t, rows, columns,
                           [](auto of, const Transposition& what, int64_t i, int64_t j) {
                               transpose_words_block(of, what, i, j);
                           });
}

/// The same for elements of 2 bytes.
template <typename D>
void transpose_halves(D d, const Transposition& t, int64_t rows, int64_t columns) {
    transpose<8, uint16_t>(d, t, rows, columns,
                           [](auto of, const Transposition& what, int64_t i, int64_t j) {
                               transpose_halves_block(of, what, i, j);
                           });
}

void widen_row(float* destination, const bf16* source, int64_t n) {
    walk(n, [&](int64_t i, auto lanes) { store(load(source + i, lanes), destination + i, lanes); });
}

/// bf16 multiplied as f32: only on processors without AVX512_BF16.
void widen(float* destination, int64_t stride, const MatrixView& from, int64_t rows,
           int64_t columns) {
    const auto* source = static_cast<const bf16*>(from.data);
    for (int64_t i = 0; i < rows; ++i) {
        if (!from.transposed) {
            widen_row(destination + i * stride, source + i * from.stride, columns);
            continue;
        }
        for (int64_t j = 0; j < columns; ++j) {
            destination[i * stride + j] = static_cast<float>(source[j * from.stride + i]);
        }
    }
}

void copy_rows(Bytes destination, int64_t destination_stride, ConstBytes source,
               int64_t source_stride, int64_t rows, int64_t row_bytes) {
    for (int64_t i = 0; i < rows; ++i) {
        std::memcpy(destination + i * destination_stride, source + i * source_stride,
                    static_cast<size_t>(row_bytes));
    }
}

void pack_left_kernel(void* destination, DType operand, const MatrixView& a, int64_t m, int64_t k) {
    auto* to = static_cast<Bytes>(destination);
    const auto* from = static_cast<ConstBytes>(a.data);
    const int64_t element = size_of(operand);
    if (operand != a.dtype) {
        widen(static_cast<float*>(destination), k, a, m, k);
    } else if (!a.transposed) {
        copy_rows(to, k * element, from, a.stride * element, m, k * element);
    } else if (operand == DType::bf16) {
        transpose_halves(LeftHalves(), {from, a.stride * 2, to, k * 2}, k, m);
    } else {
        transpose_words(LeftWords(), {from, a.stride * 4, to, k * 4}, k, m);
    }
}

/// One panel of bf16, columns contiguous in the source: zips rows 2i and 2i + 1.
void zip_panel(bf16* destination, int64_t width, const bf16* source, int64_t stride, int64_t k,
               int64_t columns) {
    const DU du;
    const hn::Rebind<uint16_t, DU> du16;
    const auto lanes = static_cast<int64_t>(hn::Lanes(du));
    const auto* from = reinterpret_cast<const uint16_t*>(source);
    auto* to = reinterpret_cast<uint16_t*>(destination);
    for (int64_t i = 0; i < k; i += 2) {
        const uint16_t* even = from + i * stride;
        const bool has_odd = i + 1 < k;
        const uint16_t* odd = has_odd ? even + stride : even;
        uint16_t* out = to + i * width;
        int64_t j = 0;
        for (; has_odd && j + lanes <= columns; j += lanes) {
            const auto low = hn::PromoteTo(du, hn::LoadU(du16, even + j));
            const auto high = hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(du16, odd + j)));
            hn::StoreU(hn::Or(low, high), du, reinterpret_cast<uint32_t*>(out + 2 * j));
        }
        for (; j < columns; ++j) {
            out[2 * j] = even[j];
            out[2 * j + 1] = has_odd ? odd[j] : uint16_t{0};
        }
    }
}

/// One panel of bf16, rows (k) contiguous in the source: pairs are words already.
void zip_panel_transposed(bf16* destination, int64_t width, const bf16* source, int64_t stride,
                          int64_t k, int64_t columns) {
    transpose_words(DU(),
                    {reinterpret_cast<ConstBytes>(source), stride * 2,
                     reinterpret_cast<Bytes>(destination), width * 4},
                    columns, k / 2);
    if (k % 2 != 0) {
        for (int64_t j = 0; j < columns; ++j) {
            destination[(k - 1) * width + 2 * j] = source[j * stride + k - 1];
            destination[(k - 1) * width + 2 * j + 1] = bf16();
        }
    }
}

void pack_panel(Bytes destination, DType operand, int64_t width, const MatrixView& b, int64_t k,
                int64_t columns) {
    const auto* from = static_cast<ConstBytes>(b.data);
    if (operand != b.dtype) {
        widen(reinterpret_cast<float*>(destination), width, b, k, columns);
    } else if (operand == DType::f32) {
        if (b.transposed) {
            transpose_words(DU(), {from, b.stride * 4, destination, width * 4}, columns, k);
        } else {
            copy_rows(destination, width * 4, from, b.stride * 4, k, columns * 4);
        }
    } else if (b.transposed) {
        zip_panel_transposed(reinterpret_cast<bf16*>(destination), width,
                             static_cast<const bf16*>(b.data), b.stride, k, columns);
    } else {
        zip_panel(reinterpret_cast<bf16*>(destination), width, static_cast<const bf16*>(b.data),
                  b.stride, k, columns);
    }
}

void pack_right_kernel(void* destination, DType operand, const PanelLayout& layout,
                       const MatrixView& b, int64_t k, int64_t n) {
    const int64_t width = layout.width == 0 ? n : layout.width;
    const int64_t panel_bytes = layout.padded_k(k) * width * size_of(operand);
    auto* panel = static_cast<Bytes>(destination);
    for (int64_t j = 0; j < n; j += width, panel += panel_bytes) {
        const int64_t columns = std::min(width, n - j);
        if (columns < width || layout.padded_k(k) != k) {
            std::memset(panel, 0, static_cast<size_t>(panel_bytes));
        }
        pack_panel(panel, operand, width, b.at(0, j), k, columns);
    }
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(pack_left_kernel);
HWY_EXPORT(pack_right_kernel);

void pack_left(void* destination, DType operand, const MatrixView& a, int64_t m, int64_t k) {
    HWY_DYNAMIC_DISPATCH(pack_left_kernel)(destination, operand, a, m, k);
}

void pack_right(void* destination, DType operand, const PanelLayout& layout, const MatrixView& b,
                int64_t k, int64_t n) {
    HWY_DYNAMIC_DISPATCH(pack_right_kernel)(destination, operand, layout, b, k, n);
}

}  // namespace lathe::cpu
#endif
