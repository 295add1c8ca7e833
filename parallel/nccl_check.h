// NCCL's errors as exceptions.
#pragma once

#include <nccl.h>

#include <string>

#include "kernels/error.h"

namespace lathe {

/// NCCL's words for an error, with what it has to say besides.
inline std::string nccl_reason(ncclResult_t status) {
    const std::string more = ncclGetLastError(nullptr);
    return fmt::format("NCCL: {}{}{}", ncclGetErrorString(status), more.empty() ? "" : ": ", more);
}

/// Throws Error that names the call and NCCL's reason unless `status` is success.
inline void check_nccl(ncclResult_t status, const char* call) {
    LATHE_CHECK(status == ncclSuccess, "{}: {}", call, nccl_reason(status));
}

}  // namespace lathe

#define NCCL_CHECK(call) ::lathe::check_nccl((call), #call)
