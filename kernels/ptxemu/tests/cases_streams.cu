// Streams, events, host functions, stream-ordered and pinned memory.
#include <atomic>
#include <chrono>
#include <thread>

#include "cases.h"

namespace {

__global__ void set(int* a, int v) { a[threadIdx.x] = v; }
__global__ void add(int* a, const int* b) { a[threadIdx.x] += b[threadIdx.x]; }

struct Pinned {
    int* p;
    explicit Pinned(int v) {
        cudaHostAlloc((void**)&p, 128, cudaHostAllocPortable);
        for (int i = 0; i < 32; ++i) p[i] = v;
    }
    ~Pinned() { cudaFreeHost(p); }
};
cudaStream_t stream() {
    cudaStream_t s;
    check(!cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "stream");
    return s;
}
void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// ---------------------------------------------------------------- host functions

std::atomic<int> stage;
void CUDART_CB double_first(void* p) { *(int*)p *= 2; }
void CUDART_CB wait_for_stage(void*) {
    while (stage == 0) sleep_ms(1);
    stage = 2;
}

// A host function runs in its stream's order, and may wait for the program's own threads.
void host_function() {
    cudaStream_t s = stream();
    Dev<int> a(32);
    Pinned h(0);
    set<<<1, 32, 0, s>>>(a.p, 21);
    cudaMemcpyAsync(h.p, a.p, 128, cudaMemcpyDeviceToHost, s);
    check(!cudaLaunchHostFunc(s, double_first, h.p), "host function");
    cudaMemcpyAsync(a.p, h.p, 128, cudaMemcpyHostToDevice, s);
    check(!cudaStreamSynchronize(s) && a.get()[0] == 42 && a.get()[1] == 21, "in order");
    stage = 0;
    check(!cudaLaunchHostFunc(s, wait_for_stage, nullptr), "does not hold the caller up");
    set<<<1, 32, 0, s>>>(a.p, 5);
    check(cudaStreamQuery(s) == cudaErrorNotReady, "stream waits for the function");
    stage = 1;
    check(!cudaStreamSynchronize(s) && stage == 2, "goes on");
    cudaStreamDestroy(s);
}
SILENT(host_function_order) { host_function(); }
SILENT(host_function_order_late, "PTXEMU_ASYNC=1") { host_function(); }

// The host waits for a host function without calling CUDA.
void host_function_alone() {
    cudaStream_t s = stream();
    stage = 0;
    cudaLaunchHostFunc(
        s, [](void*) { stage = 7; }, nullptr);
    for (int k = 0; k < 5000 && stage != 7; ++k) sleep_ms(1);
    check(stage == 7, "runs without another call");
    cudaStreamDestroy(s);
}
SILENT(host_function_runs) { host_function_alone(); }
SILENT(host_function_runs_late, "PTXEMU_ASYNC=1") { host_function_alone(); }

FAULT(host_function_calls_api, "a host function called the CUDA API") {
    cudaLaunchHostFunc(
        nullptr, [](void*) { cudaDeviceSynchronize(); }, nullptr);
}

// ---------------------------------------------------------------- streams and events

FAULT(destroyed_stream, "use of a stream that does not exist") {
    cudaStream_t s = stream();
    cudaStreamDestroy(s);
    check(cudaStreamSynchronize(s) != cudaSuccess, "refused");
}

// What is queued when a stream or an event is destroyed still happens.
void destroyed_early() {
    cudaStream_t s = stream(), t = stream();
    cudaEvent_t e;
    Dev<int> a(32), b(32);
    cudaMemset(b.p, 0, 128);
    cudaDeviceSynchronize();
    cudaEventCreateWithFlags(&e, cudaEventDisableTiming);
    set<<<1, 32, 0, s>>>(a.p, 3);
    cudaEventRecord(e, s);
    cudaStreamWaitEvent(t, e, 0);
    check(!cudaEventDestroy(e) && !cudaStreamDestroy(s), "destroy");
    add<<<1, 32, 0, t>>>(b.p, a.p);
    check(!cudaStreamSynchronize(t) && b.get()[31] == 3, "values");
    cudaStreamDestroy(t);
}
SILENT(destroyed_with_work) { destroyed_early(); }
SILENT(destroyed_with_work_late, "PTXEMU_ASYNC=1") { destroyed_early(); }

// A wait holds for the record that was there when it was called.
void recorded_again() {
    cudaStream_t s = stream(), t = stream();
    cudaEvent_t e, never;
    float ms = -1;
    Dev<int> a(32), b(32);
    cudaEventCreate(&e);
    cudaEventCreate(&never);
    set<<<1, 32, 0, s>>>(a.p, 3);
    cudaEventRecord(e, s);
    cudaStreamWaitEvent(t, e, 0);
    cudaMemcpyAsync(b.p, a.p, 128, cudaMemcpyDeviceToDevice, t);
    cudaEventRecord(e, t);
    cudaStreamWaitEvent(s, e, 0);
    set<<<1, 32, 0, s>>>(a.p, 4);
    check(!cudaStreamSynchronize(t) && b.get()[0] == 3, "first record");
    check(!cudaStreamSynchronize(s) && a.get()[0] == 4, "second record");
    check(!cudaEventQuery(never) && !cudaStreamWaitEvent(s, never, 0),
          "an event never recorded is over");
    check(cudaEventElapsedTime(&ms, e, never) == cudaErrorInvalidResourceHandle, "but has no time");
    cudaGetLastError();
    for (cudaEvent_t x : {e, never}) cudaEventDestroy(x);
    check(cudaEventDestroy(e) == cudaErrorInvalidResourceHandle, "destroyed twice");
    cudaGetLastError();
    for (cudaStream_t x : {s, t}) cudaStreamDestroy(x);
}
SILENT(event_recorded_again) { recorded_again(); }
SILENT(event_recorded_again_late, "PTXEMU_ASYNC=1") { recorded_again(); }

// ---------------------------------------------------------------- memory

void pools() {
    cudaStream_t s = stream();
    cudaMemPool_t pool, other;
    u64 keep = 1 << 20, now = 0;
    int device = 0;
    cudaMemPoolProps props = {};
    props.allocType = cudaMemAllocationTypePinned;
    props.location.type = cudaMemLocationTypeDevice;
    check(!cudaGetDevice(&device) && !cudaDeviceGetDefaultMemPool(&pool, device), "default pool");
    check(!cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep) &&
              !cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &now) && now == keep,
          "threshold");
    check(!cudaMemPoolCreate(&other, &props) && other != pool, "another pool");
    int *a, *b;
    check(
        !cudaMallocAsync((void**)&a, 128, s) && !cudaMallocFromPoolAsync((void**)&b, 128, other, s),
        "allocate");
    set<<<1, 32, 0, s>>>(a, 1);
    set<<<1, 32, 0, s>>>(b, 2);
    add<<<1, 32, 0, s>>>(a, b);
    int h = 0;
    cudaMemcpyAsync(&h, a, sizeof h, cudaMemcpyDeviceToHost, s);
    check(!cudaFreeAsync(a, s) && !cudaFreeAsync(b, s) && !cudaStreamSynchronize(s) && h == 3,
          "free");
    check(!cudaMemPoolTrimTo(pool, 0) && !cudaMemPoolDestroy(other), "destroy");
    cudaStreamDestroy(s);
}
// What is freed lacks elsewhere while its pool keeps it.
void kept() {
    cudaStream_t s = stream();
    cudaMemPool_t pool;
    cudaMemPoolProps props = {};
    props.allocType = cudaMemAllocationTypePinned;
    props.location.type = cudaMemLocationTypeDevice;
    const size_t mib = 1 << 20;
    u64 keep = 64 * mib, reserved = 0, used = 0;
    size_t all = 0, free = 0, total = 0;
    check(!cudaMemGetInfo(&all, &total) && !cudaMemPoolCreate(&pool, &props) &&
              !cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep),
          "pool");
    void *a, *b;
    check(!cudaMallocFromPoolAsync(&a, 48 * mib, pool, s) && !cudaFreeAsync(a, s) &&
              !cudaStreamSynchronize(s) && !cudaMemGetInfo(&free, &total) && free == all - 48 * mib,
          "kept");
    check(!cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved) &&
              !cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used) &&
              reserved == 48 * mib && used == 0,
          "attributes");
    check(cudaMalloc(&b, all - 40 * mib) == cudaErrorMemoryAllocation, "not for others");
    cudaGetLastError();
    check(!cudaMallocFromPoolAsync(&a, 40 * mib, pool, s) && !cudaMemGetInfo(&free, &total) &&
              free == all - 48 * mib,
          "used again");
    check(!cudaFreeAsync(a, s) && !cudaMallocFromPoolAsync(&a, 100 * mib, pool, s) &&
              !cudaFreeAsync(a, s) && !cudaStreamSynchronize(s) && !cudaMemGetInfo(&free, &total) &&
              free == all - 64 * mib,
          "up to the threshold");
    check(!cudaMemPoolTrimTo(pool, 16 * mib) && !cudaMemGetInfo(&free, &total) &&
              free == all - 16 * mib,
          "trimmed");
    check(!cudaMemPoolDestroy(pool) && !cudaMemGetInfo(&free, &total) && free == all, "destroyed");
    cudaStreamDestroy(s);
}
SILENT(memory_kept_by_pools, "PTXEMU_MEM_MB=512") { kept(); }
SILENT(memory_pools) { pools(); }
SILENT(memory_pools_late, "PTXEMU_ASYNC=1") { pools(); }

void use_after_free() {
    cudaStream_t s = stream();
    int* a;
    cudaMallocAsync((void**)&a, 128, s);
    cudaFreeAsync(a, s);
    set<<<1, 32, 0, s>>>(a, 1);
    cudaStreamSynchronize(s);
}
FAULT(pool_use_after_free, "freed allocation") { use_after_free(); }
FAULT(pool_use_after_free_late, "freed allocation", "PTXEMU_ASYNC=1") { use_after_free(); }

SILENT(registered_memory, "PTXEMU_ASYNC=1") {
    std::vector<int> h(4096, 6);
    int* device;
    cudaStream_t s = stream();
    Dev<int> a(32);
    check(!cudaHostRegister(h.data(), h.size() * 4, cudaHostRegisterDefault), "register");
    check(cudaHostRegister(h.data() + 10, 4, cudaHostRegisterDefault) ==
              cudaErrorHostMemoryAlreadyRegistered,
          "twice");
    check(!cudaHostGetDevicePointer((void**)&device, h.data(), 0), "device pointer");
    cudaGetLastError();
    cudaMemcpyAsync(a.p, h.data(), 128, cudaMemcpyHostToDevice, s);
    h[3] = 7;  // too early: the copy is still to come, as from pinned memory
    check(!cudaStreamSynchronize(s) && a.get()[3] == 7, "asynchronous");
    add<<<1, 32, 0, s>>>(device, a.p);
    check(!cudaStreamSynchronize(s) && h[3] == 14, "from a kernel");
    check(!cudaHostUnregister(h.data()) &&
              cudaHostUnregister(h.data()) == cudaErrorHostMemoryNotRegistered,
          "unregister");
    cudaGetLastError();
    h[3] = 1;
    cudaMemcpyAsync(a.p, h.data(), 128, cudaMemcpyHostToDevice, s);
    h[3] = 2;
    check(!cudaStreamSynchronize(s) && a.get()[3] == 1, "pageable again");
    cudaStreamDestroy(s);
}

// ---------------------------------------------------------------- no device

SILENT(no_device, "PTXEMU_DEVICES=0") {
    int n = 5;
    void* p;
    check(cudaGetDeviceCount(&n) == cudaErrorNoDevice, "no device");
    check(cudaMalloc(&p, 4) == cudaErrorNoDevice && cudaSetDevice(0) == cudaErrorNoDevice,
          "nothing works");
}
SILENT(no_driver, "PTXEMU_DRIVER=0") {
    int n = 5, version = -1;
    check(!cudaDriverGetVersion(&version) && version == 0, "no driver");
    check(cudaGetDeviceCount(&n) == cudaErrorInsufficientDriver && n == 5, "no device");
}
SILENT(old_driver, "PTXEMU_DRIVER=12040") {
    int n = 5, version = -1;
    check(!cudaDriverGetVersion(&version) && version == 12040, "old driver");
    check(cudaGetDeviceCount(&n) == cudaErrorInsufficientDriver && n == 5, "no device");
    check(!strcmp(cudaGetErrorName(cudaErrorInsufficientDriver), "cudaErrorInsufficientDriver"),
          "name");
}

}  // namespace
