// Random numbers against published vectors; conversions against the rule of rounding.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/dtype.h"
#include "kernels/random.h"
#include "kernels/reference/values.h"

namespace lathe::test {
namespace {

using Block = std::array<uint32_t, 4>;

// Random123's kat_vectors for philox4x32-10; the third from the digits of pi.
TEST(Philox, KnownAnswers) {
    EXPECT_EQ(philox4x32(0, 0, 0), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    EXPECT_EQ(philox4x32(~0ULL, ~0ULL, ~0ULL),
              (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
    EXPECT_EQ(philox4x32(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e),
              (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, RoundingBitsAreUniform) {
    double sum = 0;
    constexpr int kCount = 100000;
    for (int64_t i = 0; i < kCount; ++i) {
        const uint32_t bits = rounding_bits(5, i, 3);
        ASSERT_LT(bits, 0x10000U);
        sum += bits;
    }
    // The mean of n uniform numbers below 65536 has a deviation of 65536 / sqrt(12 n) = 60.
    EXPECT_NEAR(sum / kCount, 32767.5, 5 * 60);
}

/// Whether `rounded` is the bf16 nearest to x, even at a tie: by comparing distances, not bits.
bool is_nearest(double x, bf16 rounded) {
    const auto value = [](uint16_t bits) {
        return static_cast<double>(static_cast<float>(std::bit_cast<bf16>(bits)));
    };
    const double distance = std::fabs(value(rounded.bits) - x);
    for (const int step : {-1, 1}) {
        // Neighbours by magnitude; past the largest finite number comes 2^128, which stands for
        // infinity.
        const auto neighbour = static_cast<uint16_t>(rounded.bits + step);
        const double other =
            std::isinf(value(neighbour)) ? std::copysign(0x1p128, x) : value(neighbour);
        if ((rounded.bits & 0x7fff) == 0 && step < 0) {
            continue;
        }
        const double other_distance = std::fabs(other - x);
        if (other_distance < distance || (other_distance == distance && rounded.bits % 2 == 1)) {
            return false;
        }
    }
    return true;
}

// Every bf16 value, its neighbourhood and the middle between it and the next, both signs.
TEST(Bf16, RoundsToNearestEven) {
    for (uint32_t upper = 0; upper < 0x10000U; ++upper) {
        if ((upper & 0x7f80U) == 0x7f80U) {
            continue;
        }
        for (const uint32_t lower : {0x0U, 0x1U, 0x7fffU, 0x8000U, 0x8001U, 0xffffU, 0x1234U}) {
            const auto x = std::bit_cast<float>(upper << 16 | lower);
            const bf16 rounded(x);
            if (std::isinf(static_cast<float>(rounded))) {
                EXPECT_GE(std::fabs(x), 0x1.ffp127F);  // half way to 2^128
                continue;
            }
            ASSERT_TRUE(is_nearest(static_cast<double>(x), rounded))
                << x << " to " << static_cast<float>(rounded);
        }
    }
}

TEST(Bf16, KeepsSpecialValues) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    EXPECT_EQ(bf16(kInfinity).bits, 0x7f80);
    EXPECT_EQ(bf16(-kInfinity).bits, 0xff80);
    EXPECT_EQ(bf16(-0.0F).bits, 0x8000);
    for (const uint32_t bits : {0x7f800001U, 0x7fc00000U, 0x7fffffffU, 0xffffffffU}) {
        EXPECT_TRUE(std::isnan(static_cast<float>(bf16(std::bit_cast<float>(bits)))));
    }
}

// Rounding through f32 goes wrong where f32 lands on bf16's tie.
TEST(Rounded, FromDoubleRoundsOnce) {
    EXPECT_EQ(reference::rounded(1 + 0x1p-8, DType::bf16), 1);
    EXPECT_EQ(reference::rounded(1 + 0x1p-8 + 0x1p-40, DType::bf16), 1 + 0x1p-7);
    EXPECT_EQ(reference::rounded(1 + 3 * 0x1p-8 - 0x1p-40, DType::bf16), 1 + 0x1p-7);
    EXPECT_EQ(reference::rounded(-1 - 0x1p-8 - 0x1p-40, DType::bf16), -1 - 0x1p-7);
    EXPECT_EQ(reference::rounded(1 + 0x1p-25, DType::f32), 1);
    EXPECT_EQ(reference::rounded(1 + 0x1p-50, DType::f64), 1 + 0x1p-50);
    EXPECT_TRUE(std::isnan(reference::rounded(NAN, DType::bf16)));
    EXPECT_EQ(reference::rounded(-INFINITY, DType::bf16), -INFINITY);
    EXPECT_EQ(reference::rounded(1e300, DType::bf16), INFINITY);
}

}  // namespace
}  // namespace lathe::test
