// NCCL's collectives, messages and splits between four processes.

// libs: nccl
// env: PTXEMU_DEVICES=4

#include <cuda_bf16.h>

#include "ranks.h"

__global__ void scale(float* a, int n, float s) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) a[i] *= s;
}
constexpr int kRanks = 4;

static void collectives(int rank, ncclUniqueId id) {
    ncclComm_t c;
    cudaStream_t st;
    cudaStreamCreate(&st);
    check(!ncclCommInitRank(&c, kRanks, id, rank), "init");
    const int n = 700001;  // more than one slot
    std::vector<float> h(n);
    for (int i = 0; i < n; ++i) h[i] = (float)(i % 1000) + rank;
    Dev<float> a(h), b(n * kRanks);
    scale<<<(n + 255) / 256, 256, 0, st>>>(a.p, n, 2.0f);
    check(!ncclAllReduce(a.p, b.p, n, ncclFloat, ncclSum, c, st), "allReduce");
    auto r = b.get();
    bool ok = true;
    for (int i = 0; i < n; ++i) ok &= r[i] == 8 * (float)(i % 1000) + 12;
    check(ok, "allReduce values");
    check(!ncclAllGather(a.p, b.p, 1000, ncclFloat, c, st), "allGather");
    r = b.get();
    for (int k = 0; k < kRanks; ++k)
        for (int i = 0; i < 1000; ++i) ok &= r[k * 1000 + i] == 2 * ((float)(i % 1000) + k);
    check(ok, "allGather values");
    int m = n / kRanks;
    check(!ncclReduceScatter(a.p, b.p, m, ncclFloat, ncclMax, c, st), "reduceScatter");
    r = b.get();
    for (int i = 0; i < m; ++i) ok &= r[i] == 2 * ((float)((rank * m + i) % 1000) + 3);
    check(ok, "reduceScatter values");
    check(!ncclBroadcast(a.p, b.p, 5000, ncclFloat, 2, c, st), "broadcast");
    r = b.get();
    for (int i = 0; i < 5000; ++i) ok &= r[i] == 2 * ((float)(i % 1000) + 2);
    check(ok, "broadcast values");
    ncclGroupStart();  // a ring: to the right, from the left
    ncclSend(a.p, 300000, ncclFloat, (rank + 1) % kRanks, c, st);
    ncclRecv(b.p, 300000, ncclFloat, (rank + kRanks - 1) % kRanks, c, st);
    check(!ncclGroupEnd(), "send and receive");
    r = b.get();
    for (int i = 0; i < 300000; ++i)
        ok &= r[i] == 2 * ((float)(i % 1000) + (rank + kRanks - 1) % kRanks);
    check(ok, "send and receive values");
    std::vector<__nv_bfloat16> hb(64, __float2bfloat16(rank + 1.0f));
    Dev<__nv_bfloat16> db(hb);
    check(!ncclAllReduce(db.p, db.p, 64, ncclBfloat16, ncclAvg, c, st) &&
              __bfloat162float(db.get()[5]) == 2.5f,
          "bf16 average in place");
    ncclComm_t half;
    check(!ncclCommSplit(c, rank % 2, -rank, &half, nullptr), "split");
    int hr, hn;
    ncclCommCount(half, &hn);
    ncclCommUserRank(half, &hr);
    check(hn == 2 && hr == (rank < 2 ? 1 : 0), "split ranks");
    std::vector<int> one{rank};
    Dev<int> di(one);
    check(!ncclAllReduce(di.p, di.p, 1, ncclInt, ncclSum, half, st) &&
              di.get()[0] == (rank % 2 ? 4 : 2),
          "all reduce in the half");
    ncclResult_t e;
    check(!ncclCommGetAsyncError(c, &e) && e == ncclSuccess, "no async error");
    check(!ncclCommDestroy(half), "destroy");
    check(!ncclCommDestroy(c), "destroy all");
    cudaStreamDestroy(st);
}

int main() {
    run_ranks(kRanks, collectives);
    return finish();
}
