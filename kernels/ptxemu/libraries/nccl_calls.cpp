// Collectives, messages and reduction operators.
#include <cstring>

#include "kernels/ptxemu/interpreter/smallfloat.h"
#include "kernels/ptxemu/libraries/nccl_group.h"

using namespace ptxemu;

namespace {

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

size_t ranks(ncclComm_t c) { return c && c->impl ? (size_t)c->impl->ranks : 0; }
bool is_root(ncclComm_t c, int root) { return c && c->impl && c->impl->rank == root; }

}  // namespace

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
