// What every communicator must do, as functions that each rank of a world runs: on threads in
// communicator_test, on processes in mpi_communicator_test.
#pragma once

#include <ostream>
#include <span>
#include <string>

#include "kernels/backend.h"
#include "parallel/communicator.h"

namespace lathe::test {

struct CommunicatorCase {
    std::string name;
    void (*run)(Backend& backend, Communicator& world);

    friend std::ostream& operator<<(std::ostream& out, const CommunicatorCase& one) {
        return out << one.name;
    }
};

std::span<const CommunicatorCase> communicator_cases();

}  // namespace lathe::test
