#include "kernels/cpu/pack.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/pack.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

using Bytes = std::byte*;
using ConstBytes = const std::byte*;

/// destination[j][i] = source[i][j] for i < rows, j < columns; strides in bytes, elements of 4.
void transpose_words(ConstBytes source, int64_t source_stride, Bytes destination,
                     int64_t destination_stride, int64_t rows, int64_t columns) {
    const hn::Full128<uint32_t> d;
    const auto load4 = [&](ConstBytes p) {
        return hn::LoadU(d, reinterpret_cast<const uint32_t*>(p));
    };
    const auto zip64_low = [&](auto a, auto b) {
        const hn::Repartition<uint64_t, decltype(d)> d64;
        return hn::BitCast(d, hn::InterleaveLower(d64, hn::BitCast(d64, a), hn::BitCast(d64, b)));
    };
    const auto zip64_high = [&](auto a, auto b) {
        const hn::Repartition<uint64_t, decltype(d)> d64;
        return hn::BitCast(d, hn::InterleaveUpper(d64, hn::BitCast(d64, a), hn::BitCast(d64, b)));
    };
    int64_t j = 0;
    for (; j + 4 <= columns; j += 4) {
        int64_t i = 0;
        for (; i + 4 <= rows; i += 4) {
            ConstBytes from = source + i * source_stride + j * 4;
            const auto r0 = load4(from);
            const auto r1 = load4(from + source_stride);
            const auto r2 = load4(from + 2 * source_stride);
            const auto r3 = load4(from + 3 * source_stride);
            const auto a = hn::InterleaveLower(d, r0, r1);
            const auto b = hn::InterleaveLower(d, r2, r3);
            const auto c = hn::InterleaveUpper(d, r0, r1);
            const auto e = hn::InterleaveUpper(d, r2, r3);
            Bytes to = destination + j * destination_stride + i * 4;
            const auto store4 = [&](auto v, int64_t row) {
                hn::StoreU(v, d, reinterpret_cast<uint32_t*>(to + row * destination_stride));
            };
            store4(zip64_low(a, b), 0);
            store4(zip64_high(a, b), 1);
            store4(zip64_low(c, e), 2);
            store4(zip64_high(c, e), 3);
        }
        for (; i < rows; ++i) {
            for (int64_t jj = j; jj < j + 4; ++jj) {
                std::memcpy(destination + jj * destination_stride + i * 4,
                            source + i * source_stride + jj * 4, 4);
            }
        }
    }
    for (; j < columns; ++j) {
        for (int64_t i = 0; i < rows; ++i) {
            std::memcpy(destination + j * destination_stride + i * 4,
                        source + i * source_stride + j * 4, 4);
        }
    }
}

/// The same for elements of 2 bytes.
void transpose_halves(ConstBytes source, int64_t source_stride, Bytes destination,
                      int64_t destination_stride, int64_t rows, int64_t columns) {
    const hn::Full128<uint16_t> d;
    const hn::Full128<uint32_t> d32;
    const hn::Full128<uint64_t> d64;
    using V = hn::Vec<hn::Full128<uint16_t>>;
    int64_t j = 0;
    for (; j + 8 <= columns; j += 8) {
        int64_t i = 0;
        for (; i + 8 <= rows; i += 8) {
            V row[8];
            for (int64_t r = 0; r < 8; ++r) {
                row[r] = hn::LoadU(
                    d, reinterpret_cast<const uint16_t*>(source + (i + r) * source_stride + j * 2));
            }
            // Pairs, fours, eights: after each step a vector holds twice the rows of half the
            // columns.
            V pair[8];
            for (int r = 0; r < 4; ++r) {
                pair[r] = hn::InterleaveLower(d, row[2 * r], row[2 * r + 1]);
                pair[4 + r] = hn::InterleaveUpper(d, row[2 * r], row[2 * r + 1]);
            }
            V four[8];
            for (int half = 0; half < 2; ++half) {
                for (int r = 0; r < 2; ++r) {
                    const auto a = hn::BitCast(d32, pair[half * 4 + 2 * r]);
                    const auto b = hn::BitCast(d32, pair[half * 4 + 2 * r + 1]);
                    four[half * 4 + r] = hn::BitCast(d, hn::InterleaveLower(d32, a, b));
                    four[half * 4 + 2 + r] = hn::BitCast(d, hn::InterleaveUpper(d32, a, b));
                }
            }
            for (int pairs = 0; pairs < 4; ++pairs) {
                const auto a = hn::BitCast(d64, four[2 * pairs]);
                const auto b = hn::BitCast(d64, four[2 * pairs + 1]);
                Bytes to = destination + (j + 2 * pairs) * destination_stride + i * 2;
                hn::StoreU(hn::InterleaveLower(d64, a, b), d64, reinterpret_cast<uint64_t*>(to));
                hn::StoreU(hn::InterleaveUpper(d64, a, b), d64,
                           reinterpret_cast<uint64_t*>(to + destination_stride));
            }
        }
        for (; i < rows; ++i) {
            for (int64_t jj = j; jj < j + 8; ++jj) {
                std::memcpy(destination + jj * destination_stride + i * 2,
                            source + i * source_stride + jj * 2, 2);
            }
        }
    }
    for (; j < columns; ++j) {
        for (int64_t i = 0; i < rows; ++i) {
            std::memcpy(destination + j * destination_stride + i * 2,
                        source + i * source_stride + j * 2, 2);
        }
    }
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
        transpose_halves(from, a.stride * 2, to, k * 2, k, m);
    } else {
        transpose_words(from, a.stride * 4, to, k * 4, k, m);
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
    transpose_words(reinterpret_cast<ConstBytes>(source), stride * 2,
                    reinterpret_cast<Bytes>(destination), width * 4, columns, k / 2);
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
            transpose_words(from, b.stride * 4, destination, width * 4, columns, k);
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
