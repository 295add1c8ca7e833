// The backends that every operation is tested on. A new backend joins with one line in
// backends.cpp.
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace lathe::test {

struct BackendUnderTest {
    std::string name;
    std::function<std::unique_ptr<Backend>(int num_threads)> make;
    bool has_threads = true;  ///< whether num_threads means anything

    friend std::ostream& operator<<(std::ostream& out, const BackendUnderTest& backend) {
        return out << backend.name;
    }
};

const std::vector<BackendUnderTest>& backends_under_test();

}  // namespace lathe::test
