#include "parallel/ordered_sum.h"

#include <algorithm>
#include <array>

namespace lathe {
namespace {

/// Elements summed at a time, in a cache's innermost level.
constexpr int64_t kBlock = 2048;

template <typename T, typename Wide>
void sum_terms(const Tensor& sum, std::span<const void* const> terms) {
    std::array<Wide, kBlock> total{};
    for (int64_t begin = 0; begin < sum.size(); begin += kBlock) {
        const int64_t count = std::min(kBlock, sum.size() - begin);
        for (size_t term = 0; term < terms.size(); ++term) {
            const T* const from = static_cast<const T*>(terms[term]) + begin;
            for (int64_t i = 0; i < count; ++i) {
                const Wide value = static_cast<Wide>(from[i]);
                total[static_cast<size_t>(i)] =
                    term == 0 ? value : total[static_cast<size_t>(i)] + value;
            }
        }
        T* const to = sum.as<T>() + begin;
        for (int64_t i = 0; i < count; ++i) {
            to[i] = T(total[static_cast<size_t>(i)]);
        }
    }
}

}  // namespace

void ordered_sum(const Tensor& sum, std::span<const void* const> terms) {
    switch (sum.dtype()) {
        case DType::f32:
            return sum_terms<float, float>(sum, terms);
        case DType::bf16:
            return sum_terms<bf16, float>(sum, terms);
        case DType::f64:
            return sum_terms<double, double>(sum, terms);
        case DType::i32:
            break;
    }
    fail("a reduction sums f32, bf16 or f64, not {}", name_of(sum.dtype()));
}

}  // namespace lathe
