// 256 consecutive elements in the registers of a warp: how kernels that mix f32 and bf16 move both
// by whole 16-byte accesses.
#pragma once

#include "kernels/cuda/element.h"
#include "kernels/cuda/reduce.h"

namespace lathe::cuda {

/// A lane holds elements 4 lane .. 4 lane + 3 (values 0 to 3) and those 128 further on (4 to 7).
struct Span {
    static constexpr int kColumns = 256;
    float values[8];

    __device__ __forceinline__ static int lane() {
        return static_cast<int>(threadIdx.x % kWarpSize);
    }
    /// Which of the span's elements values[i] is.
    __device__ __forceinline__ static int column(int i) {
        return 4 * lane() + i % 4 + i / 4 * (kColumns / 2);
    }
};

/// A span as it lies in memory. Of f32 a lane moves the two packs of its own values; of bf16 one,
/// half of which is its own: lanes 2p and 2p + 1 move pack p of the span's halves.
template <typename T>
struct RawSpan {
    static constexpr int kPacks = static_cast<int>(sizeof(T)) / 2;
    Pack<T> packs[kPacks];

    __device__ __forceinline__ static int column(int i);
};
template <>
__device__ __forceinline__ int RawSpan<float>::column(int i) {
    return Span::column(4 * i);
}
template <>
__device__ __forceinline__ int RawSpan<Bf16>::column(int) {
    return Span::lane() / 2 * Pack<Bf16>::kSize + Span::lane() % 2 * (Span::kColumns / 2);
}

/// The two bf16 of a word as floats, and back.
__device__ __forceinline__ void unpack(uint32_t word, float& low, float& high) {
    low = __uint_as_float(word << 16);
    high = __uint_as_float(word & 0xffff0000U);
}
__device__ __forceinline__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const uint32_t&>(both);
}

__device__ __forceinline__ Span to_span(const Span& span) { return span; }
__device__ __forceinline__ Span to_span(const RawSpan<float>& raw) {
    return reinterpret_cast<const Span&>(raw);
}
/// By the whole warp, as the next but one.
__device__ __forceinline__ Span to_span(const RawSpan<Bf16>& raw) {
    const auto& words = reinterpret_cast<const uint32_t(&)[4]>(raw);
    const bool odd = Span::lane() % 2 == 1;
    Span span;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const uint32_t other = __shfl_xor_sync(kFullWarp, odd ? words[i] : words[i + 2], 1);
        unpack(odd ? other : words[i], span.values[2 * i], span.values[2 * i + 1]);
        unpack(odd ? words[i + 2] : other, span.values[2 * i + 4], span.values[2 * i + 5]);
    }
    return span;
}

template <typename T>
__device__ __forceinline__ RawSpan<T> to_raw(const Span& span);
template <>
__device__ __forceinline__ RawSpan<float> to_raw<float>(const Span& span) {
    return reinterpret_cast<const RawSpan<float>&>(span);
}
template <>
__device__ __forceinline__ RawSpan<Bf16> to_raw<Bf16>(const Span& span) {
    const bool odd = Span::lane() % 2 == 1;
    RawSpan<Bf16> raw;
    auto& words = reinterpret_cast<uint32_t(&)[4]>(raw);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const uint32_t low = pack(span.values[2 * i], span.values[2 * i + 1]);
        const uint32_t high = pack(span.values[2 * i + 4], span.values[2 * i + 5]);
        const uint32_t other = __shfl_xor_sync(kFullWarp, odd ? low : high, 1);
        words[i] = odd ? other : low;
        words[i + 2] = odd ? high : other;
    }
    return raw;
}

/// The span's first `count` elements (256 at most), zeros past them. kAligned: by 16-byte accesses;
/// address and count are whole packs. Otherwise element by element: this takes any.
template <typename T, bool kAligned>
__device__ __forceinline__ auto load_raw(const T* address, int64_t count) {
    if constexpr (kAligned) {
        RawSpan<T> raw{};
#pragma unroll
        for (int i = 0; i < RawSpan<T>::kPacks; ++i) {
            if (RawSpan<T>::column(i) < count) {
                raw.packs[i] = Pack<T>::load(address + RawSpan<T>::column(i));
            }
        }
        return raw;
    } else {
        Span span{};
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            if (Span::column(i) < count) {
                span.values[i] = to_float(address[Span::column(i)]);
            }
        }
        return span;
    }
}

template <typename T, bool kAligned>
__device__ __forceinline__ Span load_span(const T* address, int64_t count) {
    return to_span(load_raw<T, kAligned>(address, count));
}

template <typename T, bool kAligned>
__device__ __forceinline__ void store_span(T* address, int64_t count, const Span& span) {
    if constexpr (kAligned) {
        const RawSpan<T> raw = to_raw<T>(span);
#pragma unroll
        for (int i = 0; i < RawSpan<T>::kPacks; ++i) {
            if (RawSpan<T>::column(i) < count) {
                raw.packs[i].store_global(address + RawSpan<T>::column(i));
            }
        }
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            if (Span::column(i) < count) {
                address[Span::column(i)] = from_float<T>(span.values[i]);
            }
        }
    }
}

}  // namespace lathe::cuda
