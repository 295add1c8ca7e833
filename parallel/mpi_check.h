// MPI's errors as exceptions.
#pragma once

#include <mpi.h>

#include <array>
#include <string>

#include "kernels/error.h"

namespace lathe {

/// Throws Error with MPI's own text unless `code` is MPI_SUCCESS.
inline void check_mpi(int code, const char* call) {
    if (code != MPI_SUCCESS) [[unlikely]] {
        std::array<char, MPI_MAX_ERROR_STRING> text{};
        int length = 0;
        MPI_Error_string(code, text.data(), &length);
        fail("{} failed: {}", call, std::string(text.data(), static_cast<size_t>(length)));
    }
}

}  // namespace lathe

/// MPI_CHECK(MPI_Barrier(comm));
#define MPI_CHECK(call) ::lathe::check_mpi((call), #call)
