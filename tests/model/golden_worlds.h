// Where the golden models run.
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace lathe {

struct GoldenWorld {
    std::string name;
    DType dtype;
    std::unique_ptr<Backend> (*make)();

    friend std::ostream& operator<<(std::ostream& out, const GoldenWorld& world) {
        return out << world.name;
    }
};

const std::vector<GoldenWorld>& golden_worlds();

}  // namespace lathe
