// NCCL as part of streams: what runs when, ranks that die, hang or disagree, communicators that do
// not block.

// libs: nccl
// env: PTXEMU_DEVICES=4

#include <chrono>
#include <thread>

#include "cases.h"
#include "ranks.h"

namespace {

constexpr int kCount = 50000;

__global__ void fill(float* a, int n, float v) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) a[i] = v;
}
__global__ void scale(float* a, int n, float v) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) a[i] *= v;
}
void set(float* a, float v, cudaStream_t s) {
    fill<<<(kCount + 255) / 256, 256, 0, s>>>(a, kCount, v);
}
void times(float* a, float v, cudaStream_t s) {
    scale<<<(kCount + 255) / 256, 256, 0, s>>>(a, kCount, v);
}

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// A stream of its own, a communicator and a buffer of kCount.
struct Rank {
    cudaStream_t stream;
    ncclComm_t comm = nullptr;
    float* buffer;
    Rank(int n, ncclUniqueId id, int rank) {
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        cudaMalloc(&buffer, kCount * sizeof(float));
        check(!ncclCommInitRank(&comm, n, id, rank), "init");
    }
    void sum() {
        check(!ncclAllReduce(buffer, buffer, kCount, ncclFloat, ncclSum, comm, stream), "sum");
    }
    float value() {
        float v = -1;
        cudaMemcpyAsync(&v, buffer + kCount - 1, sizeof v, cudaMemcpyDeviceToHost, stream);
        return v;
    }
    void close() {
        check(!ncclCommDestroy(comm), "destroy");
        check(!cudaStreamSynchronize(stream), "wait");
        cudaStreamDestroy(stream);
        cudaFree(buffer);
    }
};

ncclResult_t async_error(ncclComm_t c) {
    ncclResult_t e = ncclSuccess;
    check(!ncclCommGetAsyncError(c, &e), "ask for the asynchronous error");
    return e;
}
template <class F>
bool within_seconds(int seconds, F done) {
    for (int k = 0; k < seconds * 1000; ++k) {
        if (done()) return true;
        sleep_ms(1);
    }
    return false;
}

// ---------------------------------------------------------------- streams

// Kernels before and after a collective on one stream; the call itself does not wait for the other
// rank.
void in_order(int rank, ncclUniqueId id) {
    Rank r(2, id, rank);
    if (rank == 1) sleep_ms(100);
    for (int k = 0; k < 3; ++k) {
        set(r.buffer, rank + 1.0f, r.stream);
        r.sum();
        times(r.buffer, 2, r.stream);
        r.sum();
    }
    if (rank == 0) check(cudaStreamQuery(r.stream) == cudaErrorNotReady, "the calls did not wait");
    check(r.value() == 12, "values");
    r.close();
}
SILENT(nccl_in_order) { run_ranks(2, in_order); }
SILENT(nccl_in_order_late, "PTXEMU_ASYNC=1") { run_ranks(2, in_order); }

// Two communicators on two streams, waited for in opposite orders.
void crossed(int rank, ncclUniqueId id) {
    Rank a(2, id, rank);
    Rank b = a;
    cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking);
    cudaMalloc(&b.buffer, kCount * sizeof(float));
    check(!ncclCommSplit(a.comm, 0, rank, &b.comm, nullptr), "split");
    set(a.buffer, 1, a.stream);
    set(b.buffer, 10, b.stream);
    a.sum();
    b.sum();
    check(rank ? b.value() == 20 && a.value() == 2 : a.value() == 2 && b.value() == 20, "values");
    b.close();
    a.close();
}
SILENT(nccl_crossed) { run_ranks(2, crossed); }
SILENT(nccl_crossed_late, "PTXEMU_ASYNC=1") { run_ranks(2, crossed); }

// A group over two streams starts when both have come to it, and both wait for its end.
void two_streams(int rank, ncclUniqueId id) {
    Rank r(2, id, rank);
    cudaStream_t other;
    float *in, *out;
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    cudaMalloc(&in, kCount * sizeof(float));
    cudaMalloc(&out, kCount * sizeof(float));
    set(in, rank + 5.0f, other);
    set(r.buffer, rank + 1.0f, r.stream);
    ncclGroupStart();
    ncclAllReduce(r.buffer, r.buffer, kCount, ncclFloat, ncclSum, r.comm, r.stream);
    ncclSend(in, kCount, ncclFloat, 1 - rank, r.comm, other);
    ncclRecv(out, kCount, ncclFloat, 1 - rank, r.comm, r.stream);
    check(!ncclGroupEnd(), "group");
    set(in, -1, other);  // after the group has sent it
    times(out, 2, r.stream);
    float v = 0;
    cudaMemcpyAsync(&v, out + 7, sizeof v, cudaMemcpyDeviceToHost, r.stream);
    check(v == 2 * (6.0f - rank) && r.value() == 3, "values");
    cudaStreamSynchronize(other);
    cudaStreamDestroy(other);
    cudaFree(in);
    cudaFree(out);
    r.close();
}
SILENT(nccl_two_streams) { run_ranks(2, two_streams); }
SILENT(nccl_two_streams_late, "PTXEMU_ASYNC=1") { run_ranks(2, two_streams); }

int message_pipe[2];
// Queued work goes on while the host waits for something that is not CUDA's.
void background(int rank, ncclUniqueId id) {
    Rank r(2, id, rank);
    set(r.buffer, rank + 1.0f, r.stream);
    r.sum();
    times(r.buffer, 2, r.stream);
    r.sum();
    char c = 'x';
    if (rank == 0) {
        check(r.value() == 12, "value before the message");
        check(write(message_pipe[1], &c, 1) == 1, "message");
    } else {
        check(read(message_pipe[0], &c, 1) == 1, "message");
        check(r.value() == 12, "value");
    }
    r.close();
}
SILENT(nccl_in_background) {
    check(pipe(message_pipe) == 0, "pipe");
    run_ranks(2, background);
}
SILENT(nccl_in_background_late, "PTXEMU_ASYNC=1") {
    check(pipe(message_pipe) == 0, "pipe");
    run_ranks(2, background);
}

// Many messages of many sizes in one group, to and from everybody, itself included.
void everybody(int rank, ncclUniqueId id) {
    constexpr int n = 4, m = 6;
    Rank r(n, id, rank);
    Dev<int> out(n * kCount), in(n * kCount);
    std::vector<int> h(n * kCount);
    for (size_t i = 0; i < h.size(); ++i) h[i] = rank * 1000000 + (int)i;
    cudaMemcpy(out.p, h.data(), h.size() * sizeof(int), cudaMemcpyHostToDevice);
    cudaMemset(in.p, 0, h.size() * sizeof(int));
    cudaDeviceSynchronize();
    ncclGroupStart();
    for (int peer = 0; peer < n; ++peer)
        for (int k = 0, at = 0; k < m; at += 1 << 2 * k, ++k) {
            ncclSend(out.p + peer * kCount + at, 1 << 2 * k, ncclInt, peer, r.comm, r.stream);
            ncclRecv(in.p + peer * kCount + at, 1 << 2 * k, ncclInt, peer, r.comm, r.stream);
        }
    check(!ncclGroupEnd() && !cudaStreamSynchronize(r.stream), "group");
    auto got = in.get();
    bool ok = true;
    for (int peer = 0; peer < n; ++peer)
        for (int i = 0; i < 1365; ++i)
            ok &= got[peer * kCount + i] == peer * 1000000 + rank * kCount + i;
    check(ok && got[1365] == 0, "values");
    r.close();
}
SILENT(nccl_many_messages) { run_ranks(4, everybody); }

// ---------------------------------------------------------------- ranks that fail

// A rank dies: the others learn it as an asynchronous error, their streams stay busy until they
// abort.
void rank_dies(int rank, ncclUniqueId id) {
    Rank r(3, id, rank);
    set(r.buffer, 1, r.stream);
    cudaStreamSynchronize(r.stream);
    if (rank == 2) die();
    r.sum();
    check(within_seconds(20, [&] { return async_error(r.comm) == ncclRemoteError; }),
          "asynchronous error");
    check(cudaStreamQuery(r.stream) == cudaErrorNotReady, "the stream hangs");
    check(ncclAllReduce(r.buffer, r.buffer, 1, ncclFloat, ncclSum, r.comm, r.stream) ==
              ncclRemoteError,
          "no more calls");
    check(!ncclCommAbort(r.comm), "abort");
    check(!cudaStreamSynchronize(r.stream), "the stream goes on");
    set(r.buffer, 3, r.stream);
    check(r.value() == 3, "and is of use");
    cudaStreamDestroy(r.stream);
    cudaFree(r.buffer);
}
SILENT(nccl_rank_dies) { run_ranks(3, rank_dies); }
SILENT(nccl_rank_dies_late, "PTXEMU_ASYNC=1") { run_ranks(3, rank_dies); }

// A rank hangs: no error, only time passes; a second thread aborts while the first waits for the
// stream.
void rank_hangs(int rank, ncclUniqueId id) {
    Rank r(2, id, rank);
    if (rank == 1) {
        char c;
        check(read(message_pipe[0], &c, 1) == 1, "message");
        ncclCommAbort(r.comm);
        return;
    }
    r.sum();
    std::thread watchdog([&] {
        sleep_ms(200);
        check(async_error(r.comm) == ncclSuccess, "no error yet");
        ncclCommAbort(r.comm);
    });
    check(!cudaStreamSynchronize(r.stream), "the wait ends by the abort");
    watchdog.join();
    char c = 'x';
    check(write(message_pipe[1], &c, 1) == 1, "message");
}
SILENT(nccl_rank_hangs) {
    check(pipe(message_pipe) == 0, "pipe");
    run_ranks(2, rank_hangs);
}
SILENT(nccl_rank_hangs_late, "PTXEMU_ASYNC=1") {
    check(pipe(message_pipe) == 0, "pipe");
    run_ranks(2, rank_hangs);
}

// ---------------------------------------------------------------- communicators that do not block

void finish_call(ncclComm_t c) {
    check(within_seconds(20, [&] { return async_error(c) != ncclInProgress; }) &&
              async_error(c) == ncclSuccess,
          "call ends");
}
void non_blocking(int rank, ncclUniqueId id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    cudaStream_t s;
    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    Dev<float> a(kCount);
    ncclComm_t c, half;
    if (rank == 1) sleep_ms(100);
    check(ncclCommInitRankConfig(&c, 2, id, rank, &config) == ncclInProgress,
          "init returns at once");
    if (rank == 0) {
        check(async_error(c) == ncclInProgress, "init waits for the other rank");
        check(ncclAllReduce(a.p, a.p, 1, ncclFloat, ncclSum, c, s) == ncclInvalidArgument,
              "too early");
    }
    finish_call(c);
    set(a.p, 1, s);
    check(ncclAllReduce(a.p, a.p, kCount, ncclFloat, ncclSum, c, s) == ncclInProgress,
          "call returns at once");
    check(ncclGroupStart() == ncclSuccess &&
              ncclBroadcast(a.p, a.p, 1, ncclFloat, 0, c, s) == ncclInvalidArgument,
          "one at a time");
    ncclGroupEnd();
    float early = 0;
    cudaMemcpyAsync(&early, a.p, sizeof early, cudaMemcpyDeviceToHost, s);
    check(early == 1, "nothing is on the stream before NCCL says so");
    finish_call(c);
    check(!cudaStreamSynchronize(s) && a.get()[3] == 2, "value");
    check(ncclCommSplit(c, rank, 0, &half, nullptr) == ncclInProgress, "split returns at once");
    finish_call(c);
    int n = 0;
    check(!ncclCommCount(half, &n) && n == 1 && !ncclCommDestroy(half), "halves");
    check(ncclCommFinalize(c) == ncclInProgress, "finalize returns at once");
    finish_call(c);
    check(!ncclCommDestroy(c), "destroy");
    cudaStreamDestroy(s);
}
SILENT(nccl_non_blocking) { run_ranks(2, non_blocking); }
SILENT(nccl_non_blocking_late, "PTXEMU_ASYNC=1") { run_ranks(2, non_blocking); }

// A communicator whose other rank never comes can be given up.
void lonely(int rank, ncclUniqueId id) {
    if (rank == 1) return;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t c;
    check(ncclCommInitRankConfig(&c, 2, id, rank, &config) == ncclInProgress, "init");
    sleep_ms(50);
    check(async_error(c) == ncclInProgress && !ncclCommAbort(c), "abort");
}
SILENT(nccl_lonely) { run_ranks(2, lonely); }

// All ranks of one process.
SILENT(nccl_one_process) {
    ncclComm_t c[3];
    cudaStream_t s[3];
    float* p[3];
    check(!ncclCommInitAll(c, 3, nullptr), "init");
    ncclGroupStart();
    for (int r = 0; r < 3; ++r) {
        cudaSetDevice(r);
        cudaStreamCreate(&s[r]);
        cudaMalloc(&p[r], kCount * sizeof(float));
        set(p[r], r + 1.0f, s[r]);
        ncclAllReduce(p[r], p[r], kCount, ncclFloat, ncclProd, c[r], s[r]);
    }
    check(!ncclGroupEnd(), "group");
    for (int r = 0; r < 3; ++r) {
        float v = 0;
        check(!cudaMemcpy(&v, p[r] + 9, sizeof v, cudaMemcpyDeviceToHost) && v == 6, "value");
        check(!ncclCommDestroy(c[r]) && !cudaFree(p[r]) && !cudaStreamDestroy(s[r]), "destroy");
    }
}

// ---------------------------------------------------------------- planted faults

void disagree(int rank, ncclUniqueId id) {
    Rank r(2, id, rank);
    check(!ncclAllReduce(r.buffer, r.buffer, rank ? 10 : 20, ncclFloat, ncclSum, r.comm, r.stream),
          "call");
    cudaStreamSynchronize(r.stream);
    check(async_error(r.comm) == ncclInvalidUsage, "asynchronous error");
    ncclCommAbort(r.comm);
}
FAULT(nccl_disagree, "collective mismatch") { run_ranks(2, disagree); }

void too_long(int rank, ncclUniqueId id) {
    Rank r(2, id, rank);
    if (rank) {
        ncclSend(r.buffer, 10, ncclFloat, 0, r.comm, r.stream);
        within_seconds(20, [&] { return async_error(r.comm) == ncclRemoteError; });
    } else {
        ncclRecv(r.buffer, 9, ncclFloat, 1, r.comm, r.stream);
        cudaStreamSynchronize(r.stream);
    }
    ncclCommAbort(r.comm);
}
FAULT(nccl_too_long, "sends more bytes than are received") { run_ranks(2, too_long); }

void host_buffer(int rank, ncclUniqueId id) {
    Rank r(1, id, rank);
    std::vector<float> host(10);
    check(ncclAllReduce(host.data(), host.data(), 10, ncclFloat, ncclSum, r.comm, r.stream) ==
              ncclInvalidArgument,
          "refused");
    r.close();
}
FAULT(nccl_host_buffer, "is not device memory") { run_ranks(1, host_buffer); }

void left(int rank, ncclUniqueId id) {
    Rank r(1, id, rank);
    check(!cudaStreamDestroy(r.stream) && !cudaFree(r.buffer), "all but the communicator");
}
FAULT(nccl_leak, "an NCCL communicator was never destroyed", "PTXEMU_LEAKS=1") {
    run_ranks(1, left);
}

void left_split(int rank, ncclUniqueId id) {
    Rank r(2, id, rank);
    ncclComm_t part;
    check(!ncclCommSplit(r.comm, rank, 0, &part, nullptr), "split");
    if (rank == 0) check(!ncclCommAbort(part), "abort");
    r.close();
}
FAULT(nccl_leak_of_split, "an NCCL communicator was never destroyed", "PTXEMU_LEAKS=1") {
    run_ranks(2, left_split);
}
void all_given_back(int rank, ncclUniqueId id) {
    Rank r(1, id, rank);
    r.sum();
    r.close();
}
SILENT(nccl_no_leak, "PTXEMU_LEAKS=1") { run_ranks(1, all_given_back); }

// Another stream writes what is being sent.
void overwritten(int rank, ncclUniqueId id) {
    Rank r(2, id, rank);
    cudaStream_t other;
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    r.sum();
    set(r.buffer, 1, other);
    cudaStreamDestroy(other);
    r.close();
}
FAULT(nccl_overwritten, "a write of NCCL call (stream 1)") { run_ranks(2, overwritten); }

// The buffer is freed in the stream before the call on it.
void freed_buffer(int rank, ncclUniqueId id) {
    Rank r(1, id, rank);
    float* p;
    cudaMallocAsync((void**)&p, 4000, r.stream);
    cudaFreeAsync(p, r.stream);
    ncclAllReduce(p, p, 1000, ncclFloat, ncclSum, r.comm, r.stream);
    r.close();
}
FAULT(nccl_freed_buffer, "freed allocation") { run_ranks(1, freed_buffer); }
FAULT(nccl_freed_buffer_late, "freed allocation", "PTXEMU_ASYNC=1") { run_ranks(1, freed_buffer); }

}  // namespace
