// Races in global memory: between blocks of a launch, between streams, in a block.
#include <cooperative_groups.h>
#include <cuda_bf16.h>

#include <cuda/atomic>

#include "cases.h"

namespace {

using bf16 = __nv_bfloat16;

// ---------------------------------------------------------------- blocks

__global__ void write_block(int* a) { a[0] = blockIdx.x; }
FAULT(blocks_write_write, "write after a write by block (0,0,0)") {
    Dev<int> a(4);
    write_block<<<2, 1>>>(a.p);
}

__global__ void write_flag(int* a) { a[0] = 7; }
SILENT(blocks_same_value) {
    Dev<int> a(4);
    write_flag<<<8, 32>>>(a.p);
    check(a.get()[0] == 7, "value");
}

__global__ void read_neighbour(int* a, int* b) {
    a[blockIdx.x] = 1;
    b[blockIdx.x] = a[(blockIdx.x + 3) % 4];
}
FAULT(blocks_read_write, "read after a write by block") {
    Dev<int> a(4), b(4);
    read_neighbour<<<4, 1>>>(a.p, b.p);
}

__global__ void shift(int* a) { a[blockIdx.x] = a[blockIdx.x + 1]; }
FAULT(blocks_write_read, "write after a read by block") {
    Dev<int> a(std::vector<int>(5));
    shift<<<4, 1>>>(a.p);
}

// Everybody reads, the last block writes: the reader that the record still knows is another one.
__global__ void read_all(int* a, int* b) {
    b[blockIdx.x] = a[0];
    if (blockIdx.x == 7) a[0] = 3;
}
FAULT(blocks_write_many_readers, "write after a read by block") {
    Dev<int> a(std::vector<int>(4)), b(8);
    read_all<<<8, 1>>>(a.p, b.p);
}

// Rows of an odd number of two-byte elements: neighbours share the granule, never a byte.
__global__ void scale_rows(bf16* a, int c, int over) {
    for (int i = threadIdx.x; i < c + over; i += blockDim.x) {
        bf16& x = a[blockIdx.x * c + i];
        x = __float2bfloat16(2 * __bfloat162float(x) + blockIdx.x);
    }
}
SILENT(blocks_odd_rows) {
    for (int c : {1, 3, 5, 33}) {
        Dev<bf16> a(std::vector<bf16>(16 * c, __float2bfloat16(1)));
        for (int k = 0; k < 3; ++k) scale_rows<<<16, 32>>>(a.p, c, 0);
        check(__bfloat162float(a.get()[16 * c - 1]) == 8 + 15 * 7, "value");
    }
}
FAULT(blocks_odd_rows_overlap, "GLOBAL RACE") {
    Dev<bf16> a(std::vector<bf16>(64 * 5 + 1));
    scale_rows<<<64, 32>>>(a.p, 5, 1);
}

// A column a block: every granule is written by many, in turns.
__global__ void fill_column(bf16* a, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        a[i * gridDim.x + blockIdx.x] = __float2bfloat16(blockIdx.x);
}
SILENT(blocks_columns) {
    Dev<bf16> a(100 * 24);
    for (int k = 0; k < 2; ++k) fill_column<<<24, 64>>>(a.p, 100);
    check(__bfloat162float(a.get()[99 * 24 + 13]) == 13, "value");
}
__global__ void fill_column_wrong(bf16* a, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        a[i * (gridDim.x - 1) + blockIdx.x] = __float2bfloat16(blockIdx.x + 1);
}
FAULT(blocks_columns_overlap, "GLOBAL RACE") {
    Dev<bf16> a(100 * 24);
    fill_column_wrong<<<24, 64>>>(a.p, 100);
}

__global__ void count(int* bins, const int* values) {
    atomicAdd(bins + values[blockIdx.x * blockDim.x + threadIdx.x] % 16, 1);
}
SILENT(blocks_atomics) {
    Dev<int> bins(std::vector<int>(16)), values(std::vector<int>(256, 5));
    count<<<4, 64>>>(bins.p, values.p);
    check(bins.get()[5] == 256, "value");
}
__global__ void count_and_peek(int* bins, int* out) {
    atomicAdd(bins, 1);
    out[blockIdx.x] = bins[0];
}
FAULT(blocks_atomic_and_plain, "GLOBAL RACE") {
    Dev<int> bins(std::vector<int>(4)), out(4);
    count_and_peek<<<4, 1>>>(bins.p, out.p);
}

// ---------------------------------------------------------------- the last block sums up what the
// others left

enum Mistake { kNone, kNoFence, kNoBarrier, kNoSecondFence, kFenceByAll };

template <Mistake M>
__global__ void sum_blocks(float* parts, int* ticket, float* out) {
    __shared__ bool last;
    parts[blockIdx.x * blockDim.x + threadIdx.x] = 1;
    if (M == kFenceByAll) __threadfence();
    if (M != kNoBarrier) __syncthreads();
    if (threadIdx.x == 0) {
        if (M != kNoFence && M != kFenceByAll) __threadfence();
        last = atomicAdd(ticket, 1) == gridDim.x - 1;
        if (M != kNoSecondFence) __threadfence();
    }
    __syncthreads();
    if (!last) return;
    float sum = 0;
    for (int i = threadIdx.x; i < gridDim.x * blockDim.x; i += blockDim.x) sum += parts[i];
    atomicAdd(out, sum);
    if (threadIdx.x == 0) *ticket = 0;
}
template <Mistake M>
void sum() {
    Dev<float> parts(20 * 96), out(std::vector<float>(1));
    Dev<int> ticket(std::vector<int>(1));
    for (int k = 0; k < 2; ++k) sum_blocks<M><<<20, 96>>>(parts.p, ticket.p, out.p);
    check(out.get()[0] == 2 * 20 * 96 && ticket.get()[0] == 0, "sum");
}
SILENT(last_block) { sum<kNone>(); }
SILENT(last_block_shuffled, "PTXEMU_SCHED=3") { sum<kNone>(); }
SILENT(last_block_fence_by_all) { sum<kFenceByAll>(); }
FAULT(last_block_no_fence, "nothing orders the two blocks") { sum<kNoFence>(); }
FAULT(last_block_no_barrier, "nothing orders the two blocks") { sum<kNoBarrier>(); }
FAULT(last_block_no_second_fence, "nothing orders the two blocks") { sum<kNoSecondFence>(); }

// ---------------------------------------------------------------- barriers of the whole grid

__global__ void rounds(int* a, int n) {
    auto grid = cooperative_groups::this_grid();
    int i = blockIdx.x * blockDim.x + threadIdx.x, size = gridDim.x * blockDim.x;
    for (int k = 0; k < n; ++k) {
        int v = a[(i + 1) % size];
        grid.sync();
        a[i] = v + 1;
        grid.sync();
    }
}
SILENT(grid_sync) {
    Dev<int> a(std::vector<int>(6 * 64));
    int n = 5;
    void* args[] = {&a.p, &n};
    check(!cudaLaunchCooperativeKernel(rounds, 6, 64, args, 0, nullptr), "launch");
    check(a.get()[100] == 5, "value");
}

// By hand, with fences or without them.
template <bool Fences>
__global__ void hand_made(int* a, int* b, int* arrived) {
    a[blockIdx.x * blockDim.x + threadIdx.x] = blockIdx.x;
    __syncthreads();
    if (threadIdx.x == 0) {
        if (Fences) __threadfence();
        atomicAdd(arrived, 1);
        while (*(volatile int*)arrived < gridDim.x) {
        }
        if (Fences) __threadfence();
    }
    __syncthreads();
    b[blockIdx.x * blockDim.x + threadIdx.x] =
        a[(blockIdx.x + 1) % gridDim.x * blockDim.x + threadIdx.x];
}
template <bool Fences>
void hand_made_barrier() {
    Dev<int> a(4 * 64), b(4 * 64), arrived(std::vector<int>(1));
    hand_made<Fences><<<4, 64>>>(a.p, b.p, arrived.p);
    check(b.get()[70] == 2, "value");
}
SILENT(grid_barrier_by_hand) { hand_made_barrier<true>(); }
FAULT(grid_barrier_no_fences, "nothing orders the two blocks") { hand_made_barrier<false>(); }

// ---------------------------------------------------------------- flags

__global__ void pass_on(int* data, int* flags, bool relaxed) {
    cuda::atomic_ref<int, cuda::thread_scope_device> mine(flags[blockIdx.x]),
        before(flags[blockIdx.x ? blockIdx.x - 1 : 0]);
    int v = 1;
    if (blockIdx.x) {
        while (before.load(relaxed ? cuda::memory_order_relaxed : cuda::memory_order_acquire) ==
               0) {
        }
        v = data[0] + 1;  // which all blocks before it have written, one after the other
    }
    data[0] = v;
    mine.store(1, cuda::memory_order_release);
}
SILENT(flags_in_a_chain) {
    Dev<int> data(1), flags(std::vector<int>(20));
    pass_on<<<20, 1>>>(data.p, flags.p, false);
    check(data.get()[0] == 20, "value");
}
FAULT(flags_relaxed, "nothing orders the two blocks") {
    Dev<int> data(1), flags(std::vector<int>(20));
    pass_on<<<20, 1>>>(data.p, flags.p, true);
}

// ---------------------------------------------------------------- warps of a block

__global__ void through_memory(int* a, bool barrier) {
    a[threadIdx.x] = threadIdx.x;
    if (barrier) __syncthreads();
    a[64 + threadIdx.x] = a[63 - threadIdx.x];
}
SILENT(warps_with_barrier) {
    Dev<int> a(128);
    through_memory<<<1, 64>>>(a.p, true);
    check(a.get()[64] == 63, "value");
}
FAULT(warps_without_barrier, "of the same block: no barrier in between") {
    Dev<int> a(128);
    through_memory<<<1, 64>>>(a.p, false);
}

// ---------------------------------------------------------------- streams

__global__ void set(int* a, int v) { a[threadIdx.x] = v; }
__global__ void add(int* a, const int* b) { a[threadIdx.x] += b[threadIdx.x]; }

struct TwoStreams {
    cudaStream_t s, t;
    cudaEvent_t e;
    Dev<int> a, b;
    int* pinned;
    TwoStreams() : a(std::vector<int>(32)), b(std::vector<int>(32)) {
        cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
        cudaStreamCreateWithFlags(&t, cudaStreamNonBlocking);
        cudaEventCreateWithFlags(&e, cudaEventDisableTiming);
        cudaMallocHost((void**)&pinned, 128);
    }
    ~TwoStreams() {
        cudaFreeHost(pinned);
        cudaStreamDestroy(s);
        cudaStreamDestroy(t);
        cudaEventDestroy(e);
    }
    void order() {
        cudaEventRecord(e, s);
        cudaStreamWaitEvent(t, e, 0);
    }
};

void through_event(bool ordered) {
    TwoStreams x;
    set<<<1, 32, 0, x.s>>>(x.a.p, 1);
    if (ordered) x.order();
    add<<<1, 32, 0, x.t>>>(x.b.p, x.a.p);
    check(cuda_ok() && (!ordered || x.b.get()[5] == 1), "value");
}
SILENT(streams_event) { through_event(true); }
FAULT(streams_no_event, "no event, wait or order of") { through_event(false); }
FAULT(streams_no_event_late, "no event, wait or order of", "PTXEMU_ASYNC=1") {
    through_event(false);
}

SILENT(streams_event_before) {  // what stands before the record is ordered, whatever follows it
    TwoStreams x;
    set<<<1, 32, 0, x.s>>>(x.a.p, 1);
    cudaEventRecord(x.e, x.s);
    set<<<1, 32, 0, x.s>>>(x.b.p, 1);
    cudaStreamWaitEvent(x.t, x.e, 0);
    add<<<1, 32, 0, x.t>>>(x.a.p, x.a.p);
    cudaDeviceSynchronize();
}
FAULT(streams_event_too_early, "no event, wait or order of") {
    TwoStreams x;
    cudaEventRecord(x.e, x.s);
    set<<<1, 32, 0, x.s>>>(x.a.p, 1);
    cudaStreamWaitEvent(x.t, x.e, 0);
    add<<<1, 32, 0, x.t>>>(x.b.p, x.a.p);
}

SILENT(streams_host_waits) {
    TwoStreams x;
    set<<<1, 32, 0, x.s>>>(x.a.p, 1);
    cudaStreamSynchronize(x.s);
    add<<<1, 32, 0, x.t>>>(x.b.p, x.a.p);
    cudaEventRecord(x.e, x.t);
    while (cudaEventQuery(x.e) == cudaErrorNotReady) {
    }
    set<<<1, 32, 0, x.s>>>(x.a.p, 2);
    cudaDeviceSynchronize();
    set<<<1, 32>>>(x.a.p, 3);
    cudaDeviceSynchronize();
}
SILENT(streams_default_rules) {  // the default stream waits for blocking streams, and they for it
    cudaStream_t s, t;
    Dev<int> a(32), b(std::vector<int>(32));
    cudaStreamCreate(&s);
    cudaStreamCreate(&t);
    set<<<1, 32, 0, s>>>(a.p, 1);
    add<<<1, 32>>>(b.p, a.p);
    set<<<1, 32, 0, t>>>(a.p, 2);
    cudaStreamDestroy(s);
    add<<<1, 32>>>(b.p, a.p);
    check(b.get()[0] == 3, "value");
    cudaStreamDestroy(t);
}
FAULT(streams_blocking_pair, "no event, wait or order of") {  // but not for each other
    cudaStream_t s, t;
    Dev<int> a(32), b(std::vector<int>(32));
    cudaStreamCreate(&s);
    cudaStreamCreate(&t);
    set<<<1, 32, 0, s>>>(a.p, 1);
    add<<<1, 32, 0, t>>>(b.p, a.p);
}

FAULT(streams_copy, "copy (stream 2): race: read after a write of") {
    TwoStreams x;
    set<<<1, 32, 0, x.s>>>(x.a.p, 1);
    cudaMemcpyAsync(x.pinned, x.a.p, 128, cudaMemcpyDeviceToHost, x.t);
}
FAULT(streams_fill, "fill (stream 2): race: write after a read of") {
    TwoStreams x;
    add<<<1, 32, 0, x.s>>>(x.a.p, x.b.p);
    cudaMemsetAsync(x.b.p, 0, 128, x.t);
}
FAULT(streams_fill_default, "GLOBAL RACE") {  // cudaMemset does not wait for its end
    TwoStreams x;
    cudaDeviceSynchronize();
    cudaMemset(x.a.p, 0, 128);
    set<<<1, 32, 0, x.s>>>(x.a.p, 1);
}
void pinned_copies(bool ordered) {
    TwoStreams x;
    cudaMemcpyAsync(x.pinned, x.a.p, 128, cudaMemcpyDeviceToHost, x.s);
    if (ordered) x.order();
    cudaMemcpyAsync(x.b.p, x.pinned, 128, cudaMemcpyHostToDevice, x.t);
    cudaDeviceSynchronize();
}
SILENT(streams_pinned) { pinned_copies(true); }
FAULT(streams_pinned_no_event, "race: read after a write of copy") { pinned_copies(false); }

// ---------------------------------------------------------------- memory in stream order

void stream_ordered(bool wait_before, bool wait_after) {
    TwoStreams x;
    int* p;
    cudaMallocAsync((void**)&p, 128, x.s);
    if (wait_before) x.order();
    set<<<1, 32, 0, x.t>>>(p, 1);
    if (wait_after) {
        cudaEventRecord(x.e, x.t);
        cudaStreamWaitEvent(x.s, x.e, 0);
    }
    cudaFreeAsync(p, x.s);
    cudaDeviceSynchronize();
}
SILENT(pool_ordered) { stream_ordered(true, true); }
FAULT(pool_used_too_early, "uses memory that was allocated on another stream") {
    stream_ordered(false, true);
}
FAULT(pool_freed_too_early, "frees memory that") { stream_ordered(true, false); }

}  // namespace
