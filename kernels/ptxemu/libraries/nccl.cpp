// NCCL's functions. Calls are work on their streams and never hold the host up, except where NCCL's
// own do (making, splitting and destroying communicators); with blocking = 0 not even these, and
// nothing is on a stream before ncclCommGetAsyncError says so.
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels/ptxemu/interpreter/smallfloat.h"
#include "kernels/ptxemu/libraries/nccl_comm.h"

using namespace ptxemu;

struct ncclComm {
    std::shared_ptr<Comm> impl;
};

namespace {

thread_local std::string last_error;

ncclResult_t refuse(ncclResult_t r, const std::string& why) {
    last_error = why;
    return r;
}

// ---------------------------------------------------------------- groups

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
thread_local Group group;

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

// ---------------------------------------------------------------- calls

// The communicator behind a handle if calls may be made on it, else the result to return.
ncclResult_t usable(ncclComm_t handle) {
    if (!handle || !handle->impl) return refuse(ncclInvalidArgument, "no communicator");
    int state = handle->impl->state;
    if (state == ncclInProgress)
        return refuse(
            ncclInvalidArgument,
            "the communicator is used before the previous call on it has returned ncclSuccess");
    return (ncclResult_t)state;
}

ncclResult_t remember(ncclResult_t r) {
    if (r && group.depth) group.error = r;
    return r;
}

struct Buffer {
    const void* p;
    size_t elements;
};

ncclResult_t collective(int kind, Buffer in, Buffer out, size_t count, ncclDataType_t t, int op,
                        int root, ncclComm_t handle, cudaStream_t stream) {
    if (ncclResult_t r = usable(handle)) return remember(r);
    Comm& c = *handle->impl;
    if (root < 0 || root >= c.ranks || t < 0 || t >= ncclNumTypes)
        return remember(refuse(ncclInvalidArgument, "root or type"));
    if (count == 0) return ncclSuccess;
    Group::Call call{handle->impl,
                     {},
                     {in.p, in.elements * element_size(t), false, "NCCL send buffer"},
                     {out.p, out.elements * element_size(t), true, "NCCL receive buffer"},
                     stream};
    call.op.call = {kind, (i32)t, op, root, count, 0};
    if (in.elements) call.op.in = (const u8*)ptxemu_range(in.p, call.reads.bytes, call.reads.what);
    if (out.elements) call.op.out = (u8*)ptxemu_range(out.p, call.writes.bytes, call.writes.what);
    if ((in.elements && !call.op.in) || (out.elements && !call.op.out))
        return remember(refuse(ncclInvalidArgument, "a buffer is not device memory"));
    return add_call(std::move(call));
}

ncclResult_t message(bool send, const void* p, size_t count, ncclDataType_t t, int peer,
                     ncclComm_t handle, cudaStream_t stream) {
    if (ncclResult_t r = usable(handle)) return remember(r);
    Comm& c = *handle->impl;
    if (peer < 0 || peer >= c.ranks || t < 0 || t >= ncclNumTypes)
        return remember(refuse(ncclInvalidArgument, "peer or type"));
    size_t bytes = count * element_size(t);
    MemoryUse use{p, bytes, !send, send ? "NCCL send buffer" : "NCCL receive buffer"};
    Group::Call call{handle->impl, {}, {}, {}, stream};
    (send ? call.reads : call.writes) = use;
    call.op.point_to_point = true;
    call.op.send = send;
    call.op.peer = peer;
    call.op.bytes = bytes;
    u8* at = bytes ? (u8*)ptxemu_range(p, bytes, use.what) : nullptr;
    if (bytes && !at) return remember(refuse(ncclInvalidArgument, "a buffer is not device memory"));
    call.op.in = call.op.out = at;
    return add_call(std::move(call));
}

// ---------------------------------------------------------------- communicators

bool blocks(const ncclConfig_t* config) {
    return !config || config->blocking == NCCL_CONFIG_UNDEF_INT || config->blocking;
}

ncclResult_t attach(ncclComm_t* out, int n, int rank, const std::string& name, bool blocking) {
    if (!out || n < 1 || n > kMaxRanks || rank < 0 || rank >= n)
        return remember(refuse(ncclInvalidArgument, "ranks"));
    try {
        auto c = std::make_shared<Comm>(name, n, rank, blocking);
        c->state = ncclInProgress;
        *out = new ncclComm{c};
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
            *out = new ncclComm{c};
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

#define NCCL_API extern "C" __attribute__((visibility("default"))) ncclResult_t

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
    delete handle;
    return ncclSuccess;
}
NCCL_API ncclCommAbort(ncclComm_t handle) {
    if (!handle) return ncclSuccess;
    handle->impl->abort();
    handle->impl->last = nullptr;
    handle->impl->deferred.clear();
    ptxemu_progress();
    delete handle;
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

NCCL_API ncclRedOpCreatePreMulSum(ncclRedOp_t* op, void* scalar, ncclDataType_t t,
                                  ncclScalarResidence_t where, ncclComm_t handle) {
    if (ncclResult_t r = usable(handle)) return r;
    const void* p =
        where == ncclScalarDevice ? ptxemu_range(scalar, element_size(t), "NCCL scalar") : scalar;
    if (!p) return ncclInvalidArgument;
    auto bits16 = [&] {
        u16 v;
        memcpy(&v, p, 2);
        return v;
    };
    double v = t == ncclFloat32    ? *(const float*)p
               : t == ncclFloat64  ? *(const double*)p
               : t == ncclFloat16  ? to_f(f16{bits16()})
               : t == ncclBfloat16 ? to_f(bf16{bits16()})
                                   : 1;
    auto& scale = handle->impl->scale;
    *op = (ncclRedOp_t)(ncclNumOps + 1 + (int)scale.size());
    scale[*op] = v;
    return ncclSuccess;
}
NCCL_API ncclRedOpDestroy(ncclRedOp_t, ncclComm_t) { return ncclSuccess; }

static size_t ranks(ncclComm_t c) { return c && c->impl ? (size_t)c->impl->ranks : 0; }
static bool is_root(ncclComm_t c, int root) { return c && c->impl && c->impl->rank == root; }

NCCL_API ncclAllReduce(const void* in, void* out, size_t n, ncclDataType_t t, ncclRedOp_t op,
                       ncclComm_t c, cudaStream_t s) {
    return collective(kAllReduce, {in, n}, {out, n}, n, t, op, 0, c, s);
}
NCCL_API ncclReduce(const void* in, void* out, size_t n, ncclDataType_t t, ncclRedOp_t op, int root,
                    ncclComm_t c, cudaStream_t s) {
    return collective(kReduce, {in, n}, {out, is_root(c, root) ? n : 0}, n, t, op, root, c, s);
}
NCCL_API ncclReduceScatter(const void* in, void* out, size_t n, ncclDataType_t t, ncclRedOp_t op,
                           ncclComm_t c, cudaStream_t s) {
    return collective(kReduceScatter, {in, n * ranks(c)}, {out, n}, n, t, op, 0, c, s);
}
NCCL_API ncclAllGather(const void* in, void* out, size_t n, ncclDataType_t t, ncclComm_t c,
                       cudaStream_t s) {
    return collective(kAllGather, {in, n}, {out, n * ranks(c)}, n, t, 0, 0, c, s);
}
NCCL_API ncclBroadcast(const void* in, void* out, size_t n, ncclDataType_t t, int root,
                       ncclComm_t c, cudaStream_t s) {
    return collective(kBroadcast, {in, is_root(c, root) ? n : 0}, {out, n}, n, t, 0, root, c, s);
}
NCCL_API ncclBcast(void* p, size_t n, ncclDataType_t t, int root, ncclComm_t c, cudaStream_t s) {
    return ncclBroadcast(p, p, n, t, root, c, s);
}
NCCL_API ncclAlltoAll(const void* in, void* out, size_t n, ncclDataType_t t, ncclComm_t c,
                      cudaStream_t s) {
    return collective(kAllToAll, {in, n * ranks(c)}, {out, n * ranks(c)}, n, t, 0, 0, c, s);
}
NCCL_API ncclGather(const void* in, void* out, size_t n, ncclDataType_t t, int root, ncclComm_t c,
                    cudaStream_t s) {
    return collective(kGather, {in, n}, {out, is_root(c, root) ? n * ranks(c) : 0}, n, t, 0, root,
                      c, s);
}
NCCL_API ncclScatter(const void* in, void* out, size_t n, ncclDataType_t t, int root, ncclComm_t c,
                     cudaStream_t s) {
    return collective(kScatter, {in, is_root(c, root) ? n * ranks(c) : 0}, {out, n}, n, t, 0, root,
                      c, s);
}
NCCL_API ncclSend(const void* p, size_t n, ncclDataType_t t, int peer, ncclComm_t c,
                  cudaStream_t s) {
    return message(true, p, n, t, peer, c, s);
}
NCCL_API ncclRecv(void* p, size_t n, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s) {
    return message(false, p, n, t, peer, c, s);
}
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
