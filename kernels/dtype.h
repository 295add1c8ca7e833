// Element types: what a Tensor's bytes mean.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace lathe {

/// f32 and bf16 are compute types everywhere; f64 exists for the reference backend only; i32 holds
/// tokens.
enum class DType : uint8_t { f32, bf16, f64, i32 };

/// Bytes of one element.
constexpr int64_t size_of(DType dtype) {
    switch (dtype) {
        case DType::bf16:
            return 2;
        case DType::f64:
            return 8;
        case DType::f32:
        case DType::i32:
            return 4;
    }
    return 0;
}

constexpr std::string_view name_of(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return "f32";
        case DType::bf16:
            return "bf16";
        case DType::f64:
            return "f64";
        case DType::i32:
            return "i32";
    }
    return "?";
}

/// The type in which sums, statistics, gradients and master weights of a compute type are kept.
constexpr DType accumulation_dtype(DType compute) {
    return compute == DType::f64 ? DType::f64 : DType::f32;
}

/// Brain floating point on the host: the upper half of an f32. Conversion rounds to nearest even
/// and keeps NaN quiet.
struct bf16 {
    uint16_t bits = 0;

    constexpr bf16() = default;
    constexpr explicit bf16(float value) {
        const uint32_t u = std::bit_cast<uint32_t>(value);
        if ((u & 0x7fffffffU) > 0x7f800000U) {
            bits = static_cast<uint16_t>((u >> 16) | 0x0040U);
        } else {
            bits = static_cast<uint16_t>((u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
        }
    }
    constexpr explicit operator float() const {
        return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
    }
};

/// dtype_of<float> == DType::f32, and so on.
template <typename T>
inline constexpr DType dtype_of = T::has_no_dtype;
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<bf16> = DType::bf16;
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<int32_t> = DType::i32;

}  // namespace lathe
