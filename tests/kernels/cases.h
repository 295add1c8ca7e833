// Random and training-size cases of every operation, with tolerances derived from their inputs.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "tests/kernels/operation_case.h"
#include "tests/support/random_values.h"

namespace lathe::test {

using Cases = std::vector<Case>;

struct OperationCases {
    std::string operation;
    /// Odd sizes, sizes 0 and 1, optional arguments present and absent, arguments in place.
    Cases (*random)(DType compute, Random& random);
    /// Sizes at which kernels really split their work over threads.
    Cases (*training)(DType compute, Random& random);

    friend std::ostream& operator<<(std::ostream& out, const OperationCases& cases) {
        return out << cases.operation;
    }
};

/// One entry an operation of LATHE_OPERATIONS, in that order.
const std::vector<OperationCases>& operation_cases();

#define LATHE_DECLARE_CASES(Operation)                             \
    Cases random_cases_##Operation(DType compute, Random& random); \
    Cases training_cases_##Operation(DType compute, Random& random);
LATHE_OPERATIONS(LATHE_DECLARE_CASES)
#undef LATHE_DECLARE_CASES

}  // namespace lathe::test
