// Flat arrays of any length, walked in spans: a warp takes one, by 16-byte accesses where all
// arrays are aligned and the span is whole, else element by element.
#pragma once

#include <type_traits>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/span.h"

namespace lathe::cuda {

inline constexpr int kFlatThreads = 256;
inline constexpr int64_t kFlatBlockElements = int64_t{kFlatThreads} / kWarpSize * Span::kColumns;

/// Calls function(std::bool_constant<by 16-byte accesses>, begin, count) for this warp's span of n
/// elements.
template <typename Function>
__device__ __forceinline__ void for_each_span(int64_t n, bool aligned, Function&& function) {
    const int64_t begin = blockIdx.x * kFlatBlockElements +
                          static_cast<int64_t>(threadIdx.x / kWarpSize) * Span::kColumns;
    const int64_t left = n - begin;
    if (aligned && left >= Span::kColumns) {
        function(std::true_type{}, begin, int64_t{Span::kColumns});
    } else if (left > 0) {
        function(std::false_type{}, begin, left < Span::kColumns ? left : Span::kColumns);
    }
}

/// Launches a kernel that walks n elements so; none for n == 0.
template <typename... Parameters, typename... Arguments>
void launch_flat(const char* name, void (*kernel)(Parameters...), int64_t n, cudaStream_t stream,
                 Arguments... arguments) {
    if (n > 0) {
        launch(name, kernel,
               {.blocks = static_cast<unsigned>(divide_up(n, kFlatBlockElements)),
                .threads = kFlatThreads,
                .stream = stream},
               arguments...);
    }
}

}  // namespace lathe::cuda
