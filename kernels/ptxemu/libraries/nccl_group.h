// What all of NCCL's functions share: the communicator behind a handle, errors, groups.
#pragma once
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <string>

#include "kernels/ptxemu/libraries/nccl_comm.h"

#define NCCL_API extern "C" __attribute__((visibility("default"))) ncclResult_t

struct ncclComm {
    std::shared_ptr<ptxemu::Comm> impl;
};

namespace ptxemu {

struct Group {
    struct Call {
        std::shared_ptr<Comm> comm;
        NcclOp op;
        MemoryUse reads, writes;
        cudaStream_t stream;
    };
    int depth = 0;
    ncclResult_t error = ncclSuccess;
    std::vector<Call> calls;
    std::vector<std::shared_ptr<Comm>> starting;  // communicators that blocking calls wait for
};
extern thread_local Group group;

ncclResult_t refuse(ncclResult_t r, const std::string& why);  // ncclGetLastError tells why
ncclResult_t remember(ncclResult_t r);                        // for the end of the group
// The result to return where no calls may be made on a communicator, else ncclSuccess.
ncclResult_t usable(ncclComm_t handle);
void issue(const std::shared_ptr<GroupWork>& work, const std::vector<cudaStream_t>& streams);
ncclResult_t add_call(Group::Call call);
ncclResult_t end_group();

}  // namespace ptxemu
