#include "cli/openmp.h"

#include <unistd.h>

#include <cstdlib>

namespace lathe {

void shorten_openmp_spin(char** argv) {
    constexpr const char* kSpin = "GOMP_SPINCOUNT";
    // Some ten microseconds: longer than the threads are apart, shorter than a switch costs.
    constexpr const char* kCount = "2000";
    if (std::getenv(kSpin) != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr ||
        setenv(kSpin, kCount, 0) != 0) {
        return;
    }
    execv("/proc/self/exe", argv);
    // Where that cannot be done the program goes on as it is: slower on busy cores, nothing else.
}

}  // namespace lathe
