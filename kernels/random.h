// Counter-based random numbers: a pure function of (seed, stream, counter), the same on every
// device and in any order. Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2,
// 3", SC 2011).
#pragma once

#include <array>
#include <cstdint>

namespace lathe {

/// Four independent uniform 32-bit numbers for the counter (low, high) under the 64-bit key.
constexpr std::array<uint32_t, 4> philox4x32(uint64_t key, uint64_t low, uint64_t high) {
    std::array<uint32_t, 4> x = {static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32),
                                 static_cast<uint32_t>(high), static_cast<uint32_t>(high >> 32)};
    auto k0 = static_cast<uint32_t>(key);
    auto k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t{0xD2511F53} * x[0];
        const uint64_t p1 = uint64_t{0xCD9E8D57} * x[2];
        x = {static_cast<uint32_t>(p1 >> 32) ^ x[1] ^ k0, static_cast<uint32_t>(p1),
             static_cast<uint32_t>(p0 >> 32) ^ x[3] ^ k1, static_cast<uint32_t>(p0)};
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return x;
}

/// The random bits that AdamW's stochastic rounding adds to the lower half of an f32 before cutting
/// it off.
constexpr uint32_t rounding_bits(uint64_t seed, int64_t element, int64_t step) {
    return philox4x32(seed, static_cast<uint64_t>(element), static_cast<uint64_t>(step))[0] &
           0xffffU;
}

}  // namespace lathe
