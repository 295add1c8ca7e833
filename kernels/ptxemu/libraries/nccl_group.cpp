#include "kernels/ptxemu/libraries/nccl_group.h"

#include <algorithm>

namespace ptxemu {

thread_local Group group;

namespace {
thread_local std::string last_error;
}

ncclResult_t refuse(ncclResult_t r, const std::string& why) {
    last_error = why;
    return r;
}

ncclResult_t remember(ncclResult_t r) {
    if (r && group.depth) group.error = r;
    return r;
}

ncclResult_t usable(ncclComm_t handle) {
    if (!handle || !handle->impl) return refuse(ncclInvalidArgument, "no communicator");
    int state = handle->impl->state;
    if (state == ncclInProgress)
        return refuse(
            ncclInvalidArgument,
            "the communicator is used before the previous call on it has returned ncclSuccess");
    return (ncclResult_t)state;
}

void issue(const std::shared_ptr<GroupWork>& work, const std::vector<cudaStream_t>& streams) {
    work->previous = work->comm->last;
    work->comm->last = work;
    ptxemu_submit(streams.data(), (int)streams.size(), work);
}

ncclResult_t end_group() {
    std::vector<Group::Call> calls = std::move(group.calls);
    auto starting = std::move(group.starting);
    ncclResult_t result = group.error;
    group.calls.clear();
    group.starting.clear();
    group.error = ncclSuccess;
    for (auto& c : starting) {
        c->run_and_wait([] {});
        if (c->state) result = (ncclResult_t)c->state.load();
    }
    if (result) return result;

    struct Part {
        std::shared_ptr<GroupWork> work;
        std::vector<cudaStream_t> streams;
    };
    std::vector<Part> parts;  // in the order of first calls
    for (auto& c : calls) {
        auto p = std::find_if(parts.begin(), parts.end(),
                              [&](Part& x) { return x.work->comm == c.comm; });
        if (p == parts.end()) {
            parts.push_back({std::make_shared<GroupWork>(), {}});
            p = parts.end() - 1;
            p->work->comm = c.comm;
        }
        p->work->ops.push_back(c.op);
        p->streams.push_back(c.stream);
        if (c.reads.bytes) p->work->uses.push_back(c.reads);
        if (c.writes.bytes) p->work->uses.push_back(c.writes);
    }
    for (auto& p : parts) {
        Comm& c = *p.work->comm;
        if (c.blocking) {
            issue(p.work, p.streams);
            continue;
        }
        c.deferred.push_back({p.work, p.streams});
        c.state = result = ncclInProgress;
        c.polled = false;
    }
    return result;
}

ncclResult_t add_call(Group::Call call) {
    group.calls.push_back(std::move(call));
    return group.depth ? ncclSuccess : end_group();
}

}  // namespace ptxemu

using namespace ptxemu;

NCCL_API ncclGroupStart() {
    ++group.depth;
    return ncclSuccess;
}
NCCL_API ncclGroupEnd() {
    if (group.depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    return --group.depth ? ncclSuccess : end_group();
}

extern "C" const char* ncclGetErrorString(ncclResult_t r) {
    static const char* text[] = {"no error",
                                 "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
                                 "unhandled system error (run with NCCL_DEBUG=INFO for details)",
                                 "internal error - please report this issue to the NCCL developers",
                                 "invalid argument (run with NCCL_DEBUG=WARN for details)",
                                 "invalid usage (run with NCCL_DEBUG=WARN for details)",
                                 "remote process exited or there was a network error",
                                 "NCCL operation in progress"};
    return r >= 0 && r < ncclNumResults ? text[r] : "unknown result code";
}
extern "C" const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }
