// Communicators. Calls are work on their streams and never hold the host up, except where NCCL's
// own do (making, splitting and destroying communicators); with blocking = 0 not even these, and
// nothing is on a stream before ncclCommGetAsyncError says so.
#include <cstdlib>
#include <cstring>

#include "kernels/ptxemu/libraries/nccl_group.h"

using namespace ptxemu;

namespace {

ncclComm_t make_handle(const std::shared_ptr<Comm>& c) {
    ncclComm_t handle = new ncclComm{c};
    ptxemu_created(handle, "an NCCL communicator");
    return handle;
}
void delete_handle(ncclComm_t handle) {
    ptxemu_destroyed(handle);
    delete handle;
}

bool blocks(const ncclConfig_t* config) {
    return !config || config->blocking == NCCL_CONFIG_UNDEF_INT || config->blocking;
}

ncclResult_t attach(ncclComm_t* out, int n, int rank, const std::string& name, bool blocking) {
    if (!out || n < 1 || n > kMaxRanks || rank < 0 || rank >= n)
        return remember(refuse(ncclInvalidArgument, "ranks"));
    try {
        auto c = std::make_shared<Comm>(name, n, rank, blocking);
        c->state = ncclInProgress;
        *out = make_handle(c);
        c->run([c = c.get()] {
            c->segment.wait_for_all(c->aborted);
            c->state = ncclSuccess;
        });
        if (!blocking) return ncclInProgress;
        group.starting.push_back(c);
        return group.depth ? ncclSuccess : end_group();
    } catch (NcclFailure& f) {
        return remember(refuse(f.result, f.why));
    }
}

// Ranks of the same color, by key and old rank.
std::pair<int, int> place_in_split(Comm& c, int color, int key) {
    auto& split = c.segment.head().split;
    Meeting& host = c.segment.head().host;
    split[c.rank][0] = color;
    split[c.rank][1] = key;
    c.segment.meet(host, c.aborted);
    int members = 0, before = 0;
    for (int r = 0; r < c.ranks; ++r) {
        if (split[r][0] != color) continue;
        ++members;
        before += std::make_pair((int)split[r][1], r) < std::make_pair(key, c.rank);
    }
    c.segment.meet(host, c.aborted);
    return {members, before};
}

ncclResult_t split(Comm& parent, int color, int key, ncclComm_t* out, bool blocking) {
    *out = nullptr;
    std::string name =
        parent.name + "-s" + std::to_string(parent.splits++) + "-" + std::to_string(color);
    auto make = [&parent, color, key, out, blocking, name] {
        auto [n, rank] = place_in_split(parent, color, key);
        if (color != NCCL_SPLIT_NOCOLOR) {
            auto c = std::make_shared<Comm>(name, n, rank, blocking);
            c->segment.wait_for_all(c->aborted);
            *out = make_handle(c);
        }
        parent.state = ncclSuccess;
    };
    parent.state = ncclInProgress;
    if (!parent.blocking) {
        parent.run(make);
        return ncclInProgress;
    }
    parent.run_and_wait(make);
    return (ncclResult_t)parent.state.load();
}

bool all_ended(Comm& c) { return c.deferred.empty() && (!c.last || c.last->ended); }

}  // namespace

NCCL_API ncclGetVersion(int* v) {
    *v = NCCL_VERSION_CODE;
    return ncclSuccess;
}
NCCL_API ncclGetUniqueId(ncclUniqueId* id) {
    memset(id, 0, sizeof *id);
    strncpy(id->internal, new_segment_name().c_str(), sizeof id->internal - 1);
    return ncclSuccess;
}
NCCL_API ncclCommInitRank(ncclComm_t* c, int n, ncclUniqueId id, int rank) {
    return attach(c, n, rank, id.internal, true);
}
NCCL_API ncclCommInitRankConfig(ncclComm_t* c, int n, ncclUniqueId id, int rank,
                                ncclConfig_t* config) {
    return attach(c, n, rank, id.internal, blocks(config));
}
NCCL_API ncclCommInitAll(ncclComm_t* c, int n, const int*) {
    ncclUniqueId id;
    ncclGetUniqueId(&id);
    ncclGroupStart();
    for (int r = 0; r < n; ++r) attach(&c[r], n, r, id.internal, true);
    return ncclGroupEnd();
}
NCCL_API ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* e) {
    if (!handle || !e) return refuse(ncclInvalidArgument, "no communicator");
    Comm& c = *handle->impl;
    if (c.finalizing && all_ended(c) && c.state == ncclInProgress) c.state = ncclSuccess;
    // Once in progress: a program that does not ask again has nothing on its streams.
    if (!c.deferred.empty() && std::exchange(c.polled, true)) {
        for (auto& [work, streams] : c.deferred) issue(work, streams);
        c.deferred.clear();
        if (c.state == ncclInProgress) c.state = ncclSuccess;
    }
    *e = (ncclResult_t)c.state.load();
    return ncclSuccess;
}
NCCL_API ncclCommFinalize(ncclComm_t handle) {
    if (ncclResult_t r = usable(handle)) return r;
    Comm& c = *handle->impl;
    c.finalizing = true;
    if (!c.blocking) {
        c.state = ncclInProgress;
        return ncclInProgress;
    }
    if (c.last) ptxemu_finish(c.last);
    return (ncclResult_t)c.state.load();
}
NCCL_API ncclCommDestroy(ncclComm_t handle) {
    if (!handle) return ncclSuccess;
    Comm& c = *handle->impl;
    if (c.last) ptxemu_finish(c.last);
    c.last = nullptr;
    c.segment.leave();
    c.stop();
    delete_handle(handle);
    return ncclSuccess;
}
NCCL_API ncclCommAbort(ncclComm_t handle) {
    if (!handle) return ncclSuccess;
    handle->impl->abort();
    handle->impl->last = nullptr;
    handle->impl->deferred.clear();
    ptxemu_progress();
    delete_handle(handle);
    return ncclSuccess;
}
NCCL_API ncclCommSplit(ncclComm_t handle, int color, int key, ncclComm_t* out,
                       ncclConfig_t* config) {
    if (ncclResult_t r = usable(handle)) return r;
    return split(*handle->impl, color, key, out, config ? blocks(config) : handle->impl->blocking);
}
NCCL_API ncclCommCount(const ncclComm_t c, int* n) {
    *n = c->impl->ranks;
    return ncclSuccess;
}
NCCL_API ncclCommUserRank(const ncclComm_t c, int* r) {
    *r = c->impl->rank;
    return ncclSuccess;
}
NCCL_API ncclCommCuDevice(const ncclComm_t, int* d) {
    cudaGetDevice(d);
    return ncclSuccess;
}
NCCL_API ncclCommRegister(const ncclComm_t, void*, size_t, void** h) {
    *h = nullptr;
    return ncclSuccess;
}
NCCL_API ncclCommDeregister(const ncclComm_t, void*) { return ncclSuccess; }
NCCL_API ncclMemAlloc(void** p, size_t n) {
    return cudaMalloc(p, n) ? ncclUnhandledCudaError : ncclSuccess;
}
NCCL_API ncclMemFree(void* p) { return cudaFree(p) ? ncclUnhandledCudaError : ncclSuccess; }
