// NCCL stand-in: ranks are processes (or threads) that meet in POSIX shared memory.
//
// Every collective goes in pieces: each rank puts a piece into its slot, all meet at a barrier,
// each rank reads the slots it needs (in rank order, so results are the same everywhere), all meet
// again. The first piece carries a description of the call; ranks that disagree get
// ncclInvalidUsage and a report. Sends and receives use one mailbox a pair.
#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <nccl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernels/ptxemu/interpreter/smallfloat.h"

extern "C" void* ptxemu_range(const void* p, size_t n, const char* what);
extern "C" void ptxemu_drain(cudaStream_t s);

using namespace ptxemu;

namespace {

constexpr size_t kSlot = 1 << 20, kBox = 64 << 10;
constexpr int kMaxRanks = 64;

struct Call {
    int kind, dtype, op, root;
    u64 count, seq;
};
struct Box {
    std::atomic<u32> full;
    u32 bytes;
    alignas(16) u8 data[kBox];
};  // one message piece from a rank to another
struct Shared {
    std::atomic<u32> attached, count, gen, abort;
    std::atomic<int> pid[kMaxRanks];
    Call call[kMaxRanks];
};

enum Kind {
    AllReduce = 1,
    ReduceScatter,
    AllGather,
    Broadcast,
    Reduce,
    AllToAll,
    Gather,
    Scatter,
    Sync
};
const char* kind_name(int k) {
    static const char* n[] = {"?",      "AllReduce", "ReduceScatter", "AllGather", "Broadcast",
                              "Reduce", "AlltoAll",  "Gather",        "Scatter",   "Sync"};
    return n[k];
}
}  // namespace

struct ncclComm {
    int rank = 0, n = 1;
    std::string name;
    Shared* sh = nullptr;
    u8* slots = nullptr;
    Box* boxes = nullptr;
    size_t mapped = 0;
    u64 seq = 0, splits = 0;
    std::atomic<bool> aborted{false};
    std::atomic<int> error{ncclSuccess};
    std::map<int, double> scale;  // premultiplying operators
    u8* slot(int r) const { return slots + (size_t)r * kSlot; }
    Box& box(int from, int to) const { return boxes[from * n + to]; }
};

namespace {

struct Fail {
    ncclResult_t r;
};
thread_local std::string last_error;

[[noreturn]] void fail(ncclComm* c, ncclResult_t r, const std::string& why) {
    last_error = why;
    fprintf(stderr, "ptxemu-nccl: rank %d: %s\n", c ? c->rank : -1, why.c_str());
    if (c) c->error = r;
    throw Fail{r};
}

void futex_wait(std::atomic<u32>* a, u32 v) {
    timespec t{0, 20000000};
    syscall(SYS_futex, a, FUTEX_WAIT, v, &t, nullptr, 0);
}
void futex_wake(std::atomic<u32>* a) {
    syscall(SYS_futex, a, FUTEX_WAKE, 1 << 30, nullptr, nullptr, 0);
}

// called while waiting: gives up on abort or when a rank's process has gone
void health(ncclComm* c) {
    if (c->aborted || c->sh->abort) fail(c, ncclRemoteError, "communicator aborted");
    for (int r = 0; r < c->n; ++r) {
        int p = c->sh->pid[r];
        if (p > 0 && kill(p, 0) != 0)
            fail(c, ncclRemoteError, "rank " + std::to_string(r) + " has died");
    }
}
void barrier(ncclComm* c) {
    Shared* s = c->sh;
    u32 g = s->gen;
    if (s->count.fetch_add(1) + 1 == (u32)c->n) {
        s->count = 0;
        s->gen.fetch_add(1);
        futex_wake(&s->gen);
        return;
    }
    while (s->gen == g) {
        futex_wait(&s->gen, g);
        if (s->gen == g) health(c);
    }
}

int size(ncclDataType_t t) {
    switch (t) {
        case ncclInt8:
        case ncclUint8:
        case ncclFloat8e4m3:
        case ncclFloat8e5m2:
            return 1;
        case ncclFloat16:
        case ncclBfloat16:
            return 2;
        case ncclInt64:
        case ncclUint64:
        case ncclFloat64:
            return 8;
        default:
            return 4;
    }
}

template <class T, class A>
void reduce_as(u8* out, const std::vector<const u8*>& in, size_t n, int op, double pre, A (*up)(T),
               T (*down)(A)) {
    for (size_t i = 0; i < n; ++i) {
        A acc{};
        for (size_t r = 0; r < in.size(); ++r) {
            T t;
            memcpy(&t, in[r] + i * sizeof(T), sizeof(T));
            A v = up(t);
            if (pre != 1) v = (A)(v * pre);
            if (r == 0) {
                acc = v;
                continue;
            }
            switch (op) {
                case ncclSum:
                case ncclAvg:
                    acc = acc + v;
                    break;
                case ncclProd:
                    acc = acc * v;
                    break;
                case ncclMax:
                    acc = v > acc || v != v ? v : acc;
                    break;
                case ncclMin:
                    acc = v < acc || v != v ? v : acc;
                    break;
            }
        }
        if (op == ncclAvg) acc = acc / (A)in.size();
        T t = down(acc);
        memcpy(out + i * sizeof(T), &t, sizeof(T));
    }
}
template <class T>
T same(T v) {
    return v;
}
void reduce(u8* out, const std::vector<const u8*>& in, size_t n, ncclDataType_t t, int op,
            double pre) {
    switch (t) {
        case ncclInt8:
            return reduce_as<i8, i8>(out, in, n, op, pre, same<i8>, same<i8>);
        case ncclUint8:
            return reduce_as<u8, u8>(out, in, n, op, pre, same<u8>, same<u8>);
        case ncclInt32:
            return reduce_as<i32, i32>(out, in, n, op, pre, same<i32>, same<i32>);
        case ncclUint32:
            return reduce_as<u32, u32>(out, in, n, op, pre, same<u32>, same<u32>);
        case ncclInt64:
            return reduce_as<i64, i64>(out, in, n, op, pre, same<i64>, same<i64>);
        case ncclUint64:
            return reduce_as<u64, u64>(out, in, n, op, pre, same<u64>, same<u64>);
        case ncclFloat16:
            return reduce_as<u16, float>(
                out, in, n, op, pre, +[](u16 v) { return to_f(f16{v}); },
                +[](float f) { return to_h(f).v; });
        case ncclBfloat16:
            return reduce_as<u16, float>(
                out, in, n, op, pre, +[](u16 v) { return to_f(bf16{v}); },
                +[](float f) { return to_b(f).v; });
        case ncclFloat8e4m3:
            return reduce_as<u8, float>(
                out, in, n, op, pre, +[](u8 v) { return E4M3f::to(v); },
                +[](float f) { return (u8)E4M3f::from(f, Rnd::RN, true); });
        case ncclFloat8e5m2:
            return reduce_as<u8, float>(
                out, in, n, op, pre, +[](u8 v) { return E5M2f::to(v); },
                +[](float f) { return (u8)E5M2f::from(f, Rnd::RN, true); });
        case ncclFloat64:
            return reduce_as<double, double>(out, in, n, op, pre, same<double>, same<double>);
        default:
            return reduce_as<float, float>(out, in, n, op, pre, same<float>, same<float>);
    }
}

struct Op {
    ncclComm* c;
    bool p2p = false, send = false;
    Call call{};
    const u8* in = nullptr;
    u8* out = nullptr;
    int peer = 0;
    size_t bytes = 0, done = 0;
};

u8* range(ncclComm* c, const void* p, size_t n, const char* what) {
    if (n == 0) return (u8*)"";
    u8* r = (u8*)ptxemu_range(p, n, what);
    if (!r) fail(c, ncclInvalidArgument, std::string(what) + " is not device memory");
    return r;
}

// pieces of `len` bytes: put(offset, n) fills the own slot, get(offset, n) reads the slots
template <class P, class G>
void pieces(ncclComm* c, size_t len, size_t step, P&& put, G&& get) {
    for (size_t o = 0; o < len; o += step) {
        size_t k = std::min(step, len - o);
        put(o, k);
        barrier(c);
        get(o, k);
        barrier(c);
    }
}

void collective(Op& x) {
    ncclComm* c = x.c;
    Call d = x.call;
    d.seq = c->seq++;
    c->sh->call[c->rank] = d;
    barrier(c);
    for (int r = 0; r < c->n; ++r) {
        const Call& o = c->sh->call[r];
        if (memcmp(&o, &d, sizeof d)) {
            char b[300];
            snprintf(
                b, sizeof b,
                "collective mismatch: rank %d calls %s(count %llu type %d op %d root %d, number "
                "%llu), rank %d calls %s(count %llu type %d op %d root %d, number %llu)",
                c->rank, kind_name(d.kind), (unsigned long long)d.count, d.dtype, d.op, d.root,
                (unsigned long long)d.seq, r, kind_name(o.kind), (unsigned long long)o.count,
                o.dtype, o.op, o.root, (unsigned long long)o.seq);
            c->sh->abort = 1;
            fail(c, ncclInvalidUsage, b);
        }
    }
    ncclDataType_t t = (ncclDataType_t)d.dtype;
    size_t es = (size_t)size(t), len = d.count * es, n = (size_t)c->n, me = (size_t)c->rank;
    size_t part = kSlot / n / 16 * 16;  // one of n parts of a slot
    double pre = 1;
    int op = d.op;
    if (auto it = c->scale.find(op); it != c->scale.end()) {
        pre = it->second;
        op = ncclSum;
    }
    auto own = [&](size_t o, size_t k) { memcpy(c->slot(c->rank), x.in + o, k); };
    auto red = [&](size_t o, size_t k, size_t at) {
        std::vector<const u8*> v;
        for (int r = 0; r < c->n; ++r) v.push_back(c->slot(r) + at);
        reduce(x.out + o, v, k / es, t, op, pre);
    };
    switch (d.kind) {
        case AllReduce:
            pieces(c, len, kSlot, own, [&](size_t o, size_t k) { red(o, k, 0); });
            break;
        case Reduce:
            pieces(c, len, kSlot, own, [&](size_t o, size_t k) {
                if (c->rank == d.root) red(o, k, 0);
            });
            break;
        case Broadcast:
            pieces(
                c, len, kSlot,
                [&](size_t o, size_t k) {
                    if (c->rank == d.root) own(o, k);
                },
                [&](size_t o, size_t k) { memcpy(x.out + o, c->slot(d.root), k); });
            break;
        case AllGather:
            pieces(c, len, kSlot, own, [&](size_t o, size_t k) {
                for (size_t r = 0; r < n; ++r) memcpy(x.out + r * len + o, c->slot((int)r), k);
            });
            break;
        case Gather:
            pieces(c, len, kSlot, own, [&](size_t o, size_t k) {
                if (c->rank == d.root)
                    for (size_t r = 0; r < n; ++r) memcpy(x.out + r * len + o, c->slot((int)r), k);
            });
            break;
        case ReduceScatter:
            pieces(
                c, len, part,
                [&](size_t o, size_t k) {
                    for (size_t r = 0; r < n; ++r)
                        memcpy(c->slot(c->rank) + r * part, x.in + r * len + o, k);
                },
                [&](size_t o, size_t k) { red(o, k, me * part); });
            break;
        case AllToAll:
            pieces(
                c, len, part,
                [&](size_t o, size_t k) {
                    for (size_t r = 0; r < n; ++r)
                        memcpy(c->slot(c->rank) + r * part, x.in + r * len + o, k);
                },
                [&](size_t o, size_t k) {
                    for (size_t r = 0; r < n; ++r)
                        memcpy(x.out + r * len + o, c->slot((int)r) + me * part, k);
                });
            break;
        case Scatter:
            pieces(
                c, len, part,
                [&](size_t o, size_t k) {
                    if (c->rank == d.root)
                        for (size_t r = 0; r < n; ++r)
                            memcpy(c->slot(c->rank) + r * part, x.in + r * len + o, k);
                },
                [&](size_t o, size_t k) { memcpy(x.out + o, c->slot(d.root) + me * part, k); });
            break;
    }
}

// all sends and receives of a group move on together
void point_to_point(std::vector<Op*>& ops) {
    bool pending = true;
    while (pending) {
        pending = false;
        bool moved = false;
        std::vector<std::pair<ncclComm*, int>> busy_send,
            busy_recv;  // messages of a pair stay in order
        for (Op* x : ops) {
            if (x->done == x->bytes) continue;
            pending = true;
            auto key = std::make_pair(x->c, x->peer);
            auto& busy = x->send ? busy_send : busy_recv;
            bool first = true;
            for (auto& b : busy) first &= b != key;
            busy.push_back(key);
            if (!first) continue;
            Box& b = x->send ? x->c->box(x->c->rank, x->peer) : x->c->box(x->peer, x->c->rank);
            if (x->send && !b.full.load(std::memory_order_acquire)) {
                b.bytes = (u32)std::min(kBox, x->bytes - x->done);
                memcpy(b.data, x->in + x->done, b.bytes);
                x->done += b.bytes;
                b.full.store(1, std::memory_order_release);
                moved = true;
            } else if (!x->send && b.full.load(std::memory_order_acquire)) {
                if (b.bytes > x->bytes - x->done)
                    fail(x->c, ncclInvalidUsage,
                         "rank " + std::to_string(x->peer) + " sends more bytes than are received");
                memcpy(x->out + x->done, b.data, b.bytes);
                x->done += b.bytes;
                b.full.store(0, std::memory_order_release);
                moved = true;
            }
        }
        if (pending && !moved) {
            for (Op* x : ops) health(x->c);
            usleep(50);
        }
    }
}

void run_ops(std::vector<Op*>& ops) {  // of one communicator
    std::vector<Op*> p2p;
    for (Op* x : ops)
        if (x->p2p)
            p2p.push_back(x);
        else
            collective(*x);
    point_to_point(p2p);
}

thread_local int depth = 0;
thread_local std::vector<Op> queue;

ncclResult_t flush() {
    std::vector<Op> q = std::move(queue);
    queue.clear();
    std::map<ncclComm*, std::vector<Op*>> by;
    for (auto& x : q) by[x.c].push_back(&x);
    std::atomic<int> res{ncclSuccess};
    auto one = [&](std::vector<Op*>& v) {
        try {
            run_ops(v);
        } catch (Fail& f) {
            res = f.r;
        }
    };
    if (by.size() == 1)
        one(by.begin()->second);
    else {
        std::vector<std::thread> ts;
        for (auto& [c, v] : by) ts.emplace_back([&one, &v = v] { one(v); });
        for (auto& t : ts) t.join();
    }
    return (ncclResult_t)res.load();
}
ncclResult_t submit(Op x) {
    queue.push_back(x);
    return depth ? ncclSuccess : flush();
}
ncclResult_t coll(int kind, const void* in, void* out, size_t in_n, size_t out_n, size_t count,
                  ncclDataType_t t, int op, int root, ncclComm_t c) {
    if (!c) return ncclInvalidArgument;
    if (c->error) return (ncclResult_t)c->error.load();
    if (root < 0 || root >= c->n || t < 0 || t >= ncclNumTypes) return ncclInvalidArgument;
    try {
        Op x;
        x.c = c;
        x.call = {kind, (int)t, op, root, count, 0};
        size_t es = (size_t)size(t);
        x.in = range(c, in, in_n * es, "NCCL send buffer");
        x.out = range(c, out, out_n * es, "NCCL receive buffer");
        return submit(x);
    } catch (Fail& f) {
        return f.r;
    }
}
ncclResult_t p2p(bool send, void* p, size_t count, ncclDataType_t t, int peer, ncclComm_t c) {
    if (!c || peer < 0 || peer >= c->n) return ncclInvalidArgument;
    if (c->error) return (ncclResult_t)c->error.load();
    try {
        Op x;
        x.c = c;
        x.p2p = true;
        x.send = send;
        x.peer = peer;
        x.bytes = count * (size_t)size(t);
        u8* h = range(c, p, x.bytes, send ? "NCCL send buffer" : "NCCL receive buffer");
        x.in = h;
        x.out = h;
        return submit(x);
    } catch (Fail& f) {
        return f.r;
    }
}

ncclResult_t attach(ncclComm_t* out, int n, int rank, const std::string& name) {
    if (n < 1 || n > kMaxRanks || rank < 0 || rank >= n) return ncclInvalidArgument;
    size_t head = (sizeof(Shared) + 4095) / 4096 * 4096,
           total = head + (size_t)n * kSlot + (size_t)n * (size_t)n * sizeof(Box);
    int fd = shm_open(name.c_str(), O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)total) != 0) return ncclSystemError;
    u8* p = (u8*)mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED) return ncclSystemError;
    auto* c = new ncclComm;
    c->rank = rank;
    c->n = n;
    c->name = name;
    c->sh = (Shared*)p;
    c->slots = p + head;
    c->boxes = (Box*)(p + head + (size_t)n * kSlot);
    c->mapped = total;
    c->sh->pid[rank] = getpid();
    if (c->sh->attached.fetch_add(1) + 1 == (u32)n) shm_unlink(name.c_str());
    *out = c;
    return ncclSuccess;
}
}  // namespace

#define API extern "C" __attribute__((visibility("default"))) ncclResult_t

API ncclGetVersion(int* v) {
    *v = NCCL_VERSION_CODE;
    return ncclSuccess;
}
API ncclGetUniqueId(ncclUniqueId* id) {
    static std::atomic<int> k{0};
    timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/ptxemu-nccl-%d-%lx-%d", getpid(), (long)t.tv_nsec,
             k++);
    return ncclSuccess;
}
API ncclCommInitRank(ncclComm_t* c, int n, ncclUniqueId id, int rank) {
    return attach(c, n, rank, id.internal);
}
API ncclCommInitRankConfig(ncclComm_t* c, int n, ncclUniqueId id, int rank, ncclConfig_t*) {
    return attach(c, n, rank, id.internal);
}
API ncclCommInitAll(ncclComm_t* c, int n, const int*) {
    ncclUniqueId id;
    ncclGetUniqueId(&id);
    for (int r = 0; r < n; ++r)
        if (ncclResult_t e = attach(&c[r], n, r, id.internal)) return e;
    return ncclSuccess;
}
API ncclCommFinalize(ncclComm_t) { return ncclSuccess; }
API ncclCommDestroy(ncclComm_t c) {
    if (!c) return ncclSuccess;
    c->sh->pid[c->rank] = 0;
    munmap(c->sh, c->mapped);
    delete c;
    return ncclSuccess;
}
API ncclCommAbort(
    ncclComm_t c) {  // waiting threads of this rank leave with an error; the memory stays for them
    if (!c) return ncclSuccess;
    c->aborted = true;
    c->error = ncclRemoteError;
    c->sh->abort = 1;
    futex_wake(&c->sh->gen);
    return ncclSuccess;
}
API ncclCommSplit(ncclComm_t c, int color, int key, ncclComm_t* out, ncclConfig_t*) {
    try {
        int mine[2] = {color, key};
        barrier(c);
        memcpy(c->slot(c->rank), mine, sizeof mine);
        barrier(c);
        std::vector<std::pair<int, int>> members;  // key, rank
        for (int r = 0; r < c->n; ++r) {
            int v[2];
            memcpy(v, c->slot(r), sizeof v);
            if (v[0] == color) members.push_back({v[1], r});
        }
        barrier(c);
        u64 k = c->splits++;
        *out = nullptr;
        if (color == NCCL_SPLIT_NOCOLOR) return ncclSuccess;
        std::sort(members.begin(), members.end());
        int rank = 0;
        for (size_t j = 0; j < members.size(); ++j)
            if (members[j].second == c->rank) rank = (int)j;
        return attach(out, (int)members.size(), rank,
                      c->name + "-s" + std::to_string(k) + "-" + std::to_string(color));
    } catch (Fail& f) {
        return f.r;
    }
}
API ncclCommGetAsyncError(ncclComm_t c, ncclResult_t* e) {
    *e = (ncclResult_t)c->error.load();
    return ncclSuccess;
}
API ncclCommCount(const ncclComm_t c, int* n) {
    *n = c->n;
    return ncclSuccess;
}
API ncclCommUserRank(const ncclComm_t c, int* r) {
    *r = c->rank;
    return ncclSuccess;
}
API ncclCommCuDevice(const ncclComm_t, int* d) {
    cudaGetDevice(d);
    return ncclSuccess;
}
API ncclCommRegister(const ncclComm_t, void*, size_t, void** h) {
    *h = nullptr;
    return ncclSuccess;
}
API ncclCommDeregister(const ncclComm_t, void*) { return ncclSuccess; }
API ncclMemAlloc(void** p, size_t n) {
    return cudaMalloc(p, n) ? ncclUnhandledCudaError : ncclSuccess;
}
API ncclMemFree(void* p) { return cudaFree(p) ? ncclUnhandledCudaError : ncclSuccess; }
API ncclRedOpCreatePreMulSum(ncclRedOp_t* op, void* s, ncclDataType_t t,
                             ncclScalarResidence_t where, ncclComm_t c) {
    const u8* p =
        where == ncclScalarDevice ? (u8*)ptxemu_range(s, (size_t)size(t), "NCCL scalar") : (u8*)s;
    if (!p) return ncclInvalidArgument;
    double v = t == ncclFloat32    ? *(const float*)p
               : t == ncclFloat64  ? *(const double*)p
               : t == ncclFloat16  ? to_f(f16{*(const u16*)p})
               : t == ncclBfloat16 ? to_f(bf16{*(const u16*)p})
                                   : 1;
    *op = (ncclRedOp_t)(ncclNumOps + 1 + (int)c->scale.size());
    c->scale[*op] = v;
    return ncclSuccess;
}
API ncclRedOpDestroy(ncclRedOp_t, ncclComm_t) { return ncclSuccess; }
API ncclAllReduce(const void* s, void* r, size_t n, ncclDataType_t t, ncclRedOp_t op, ncclComm_t c,
                  cudaStream_t st) {
    ptxemu_drain(st);
    return coll(AllReduce, s, r, n, n, n, t, op, 0, c);
}
API ncclReduce(const void* s, void* r, size_t n, ncclDataType_t t, ncclRedOp_t op, int root,
               ncclComm_t c, cudaStream_t st) {
    ptxemu_drain(st);
    return coll(Reduce, s, r, n, c && c->rank == root ? n : 0, n, t, op, root, c);
}
API ncclReduceScatter(const void* s, void* r, size_t n, ncclDataType_t t, ncclRedOp_t op,
                      ncclComm_t c, cudaStream_t st) {
    ptxemu_drain(st);
    return coll(ReduceScatter, s, r, c ? n * (size_t)c->n : 0, n, n, t, op, 0, c);
}
API ncclAllGather(const void* s, void* r, size_t n, ncclDataType_t t, ncclComm_t c,
                  cudaStream_t st) {
    ptxemu_drain(st);
    return coll(AllGather, s, r, n, c ? n * (size_t)c->n : 0, n, t, 0, 0, c);
}
API ncclBroadcast(const void* s, void* r, size_t n, ncclDataType_t t, int root, ncclComm_t c,
                  cudaStream_t st) {
    ptxemu_drain(st);
    return coll(Broadcast, s, r, c && c->rank == root ? n : 0, n, n, t, 0, root, c);
}
API ncclBcast(void* b, size_t n, ncclDataType_t t, int root, ncclComm_t c, cudaStream_t s) {
    return ncclBroadcast(b, b, n, t, root, c, s);
}
API ncclAlltoAll(const void* s, void* r, size_t n, ncclDataType_t t, ncclComm_t c,
                 cudaStream_t st) {
    ptxemu_drain(st);
    return coll(AllToAll, s, r, c ? n * (size_t)c->n : 0, c ? n * (size_t)c->n : 0, n, t, 0, 0, c);
}
API ncclGather(const void* s, void* r, size_t n, ncclDataType_t t, int root, ncclComm_t c,
               cudaStream_t st) {
    ptxemu_drain(st);
    return coll(Gather, s, r, n, c && c->rank == root ? n * (size_t)c->n : 0, n, t, 0, root, c);
}
API ncclScatter(const void* s, void* r, size_t n, ncclDataType_t t, int root, ncclComm_t c,
                cudaStream_t st) {
    ptxemu_drain(st);
    return coll(Scatter, s, r, c && c->rank == root ? n * (size_t)c->n : 0, n, n, t, 0, root, c);
}
API ncclSend(const void* b, size_t n, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t st) {
    ptxemu_drain(st);
    return p2p(true, (void*)b, n, t, peer, c);
}
API ncclRecv(void* b, size_t n, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t st) {
    ptxemu_drain(st);
    return p2p(false, b, n, t, peer, c);
}
API ncclGroupStart() {
    ++depth;
    return ncclSuccess;
}
API ncclGroupEnd() {
    if (depth == 0) return ncclInvalidUsage;
    return --depth ? ncclSuccess : flush();
}
extern "C" const char* ncclGetErrorString(ncclResult_t r) {
    static const char* n[] = {"no error",
                              "unhandled cuda error",
                              "unhandled system error",
                              "internal error",
                              "invalid argument",
                              "invalid usage",
                              "remote process exited or there was a network error",
                              "NCCL operation in progress"};
    return r >= 0 && r < 8 ? n[r] : "unknown result code";
}
extern "C" const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }
