// How far two right answers may lie apart: rounding only, nothing "that happened to pass".
//
// u = unit_roundoff(type) is the largest relative error of one rounding to nearest. An output
// rounded once to its type is off by at most u |value|; two such outputs of almost the same number
// lie at most 2 u |value| apart (the relative part of a Tolerance). A sum of n terms, accumulated
// in a type of roundoff u in whatever order, is off by at most lambda sqrt(n) u sum |terms| with
// probability 1 - 2 n exp(-lambda^2 / 2) when roundings behave as independent (Higham & Mary, "A
// new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41, 2019); lambda =
// 6 makes that 1 - n 3e-8. The worst case n u sum |terms| would hide one lost term out of n already
// for n = 4000; this bound shows it up to about n = 20000. `sum |terms|` is bounded in each test
// by norms of its inputs (Cauchy-Schwarz for products): the absolute part.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/dtype.h"

namespace lathe::test {

/// |got - want| <= absolute + relative |want|. {0, 0} asks for equality.
struct Tolerance {
    double relative = 0;
    double absolute = 0;
};

/// 2^-p for p bits of significand, the hidden one counted.
constexpr double unit_roundoff(DType dtype) {
    switch (dtype) {
        case DType::bf16:
            return 0x1p-8;
        case DType::f32:
            return 0x1p-24;
        case DType::f64:
            return 0x1p-53;
        case DType::i32:
            break;
    }
    return 0;
}

/// Error of a computed exp, tanh, erf or division, in units of roundoff: vector libraries promise 4
/// units in the last place (8 roundoffs).
inline constexpr double kFunctionRoundoffs = 8;

/// Relative to the sum of the absolute values of the n terms: the error of the sum.
inline double sum_error(int64_t n, DType accumulation) {
    constexpr double kLambda = 6;
    return kLambda * std::sqrt(static_cast<double>(std::max<int64_t>(n, 1))) *
           unit_roundoff(accumulation);
}

/// Of an output rounded to `output` that carries the error `absolute` before it is rounded.
inline Tolerance rounded_once(DType output, double absolute) {
    return {2 * unit_roundoff(output), absolute * (1 + 2 * unit_roundoff(output))};
}

/// Of a sum of n terms whose absolute values add up to at most `magnitude`.
inline Tolerance rounded_sum(DType output, DType accumulation, int64_t n, double magnitude) {
    return rounded_once(output, sum_error(n, accumulation) * magnitude);
}

}  // namespace lathe::test
