#include "parallel/ordered_sum.h"

namespace lathe {
namespace {

/// Calls body with a value of the element type and one of the type it is added in.
template <typename Body>
void with_types(DType dtype, const Body& body) {
    switch (dtype) {
        case DType::f32:
            return body(float{}, float{});
        case DType::bf16:
            return body(bf16{}, float{});
        case DType::f64:
            return body(double{}, double{});
        case DType::i32:
            break;
    }
    fail("a reduction sums f32, bf16 or f64, not {}", name_of(dtype));
}

}  // namespace

void ordered_sum(const Tensor& sum, std::span<const void* const> terms) {
    with_types(sum.dtype(), [&](auto element, auto wide) {
        using T = decltype(element);
        using Wide = decltype(wide);
        T* const out = static_cast<T*>(sum.data());
        for (int64_t i = 0; i < sum.size(); ++i) {
            Wide total = static_cast<Wide>(static_cast<const T*>(terms[0])[i]);
            for (size_t term = 1; term < terms.size(); ++term) {
                total += static_cast<Wide>(static_cast<const T*>(terms[term])[i]);
            }
            out[i] = T(total);
        }
    });
}

void add_to(void* sum, const void* term, int64_t count, DType dtype) {
    with_types(dtype, [&](auto element, auto wide) {
        using T = decltype(element);
        using Wide = decltype(wide);
        T* const out = static_cast<T*>(sum);
        const T* const in = static_cast<const T*>(term);
        for (int64_t i = 0; i < count; ++i) {
            out[i] = T(static_cast<Wide>(out[i]) + static_cast<Wide>(in[i]));
        }
    });
}

}  // namespace lathe
