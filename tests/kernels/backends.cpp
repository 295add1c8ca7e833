#include "tests/kernels/backends.h"

#include "kernels/cpu/cpu_backend.h"

namespace lathe::test {

const std::vector<BackendUnderTest>& backends_under_test() {
    static const std::vector<BackendUnderTest> kAll = {
        {"cpu", make_cpu_backend},
    };
    return kAll;
}

}  // namespace lathe::test
