#include "tests/kernels/cases.h"

namespace lathe::test {

const std::vector<OperationCases>& operation_cases() {
    static const std::vector<OperationCases> kAll = {
#define LATHE_LIST_CASES(Operation) \
    {#Operation, random_cases_##Operation, training_cases_##Operation},
        LATHE_OPERATIONS(LATHE_LIST_CASES)
#undef LATHE_LIST_CASES
    };
    return kAll;
}

}  // namespace lathe::test
