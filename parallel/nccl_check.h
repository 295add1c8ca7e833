// NCCL's errors as exceptions.
#pragma once

#include <nccl.h>

#include "kernels/error.h"

namespace lathe {

/// Throws Error that names the call and NCCL's reason unless `status` is success.
inline void check_nccl(ncclResult_t status, const char* call) {
    LATHE_CHECK(status == ncclSuccess, "NCCL: {}: {}: {}", call, ncclGetErrorString(status),
                ncclGetLastError(nullptr));
}

}  // namespace lathe

#define NCCL_CHECK(call) ::lathe::check_nccl((call), #call)
