// PTXEMU_ASYNC=1: work happens as late as CUDA allows.

// env: PTXEMU_ASYNC=1 PTXEMU_RACE_GLOBAL=0

#include "common.h"
__global__ void set(int* a, int v) { a[threadIdx.x] = v; }
__global__ void add_to(int* a, const int* b) { a[threadIdx.x] += b[threadIdx.x]; }
int main() {
    int *a, *b, *pin;
    cudaStream_t s, t;
    cudaEvent_t e, f;
    cudaMalloc(&a, 128);
    cudaMalloc(&b, 128);
    cudaMallocHost(&pin, 128);
    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&t, cudaStreamNonBlocking);
    cudaEventCreate(&e);
    cudaEventCreate(&f);
    memset(pin, 0, 128);
    set<<<1, 32, 0, s>>>(a, 5);
    cudaMemcpyAsync(pin, a, 128, cudaMemcpyDeviceToHost, s);
    check(pin[3] == 0, "nothing before the wait");
    cudaEventRecord(e, s);
    check(cudaEventQuery(e) == cudaErrorNotReady, "event not ready");
    check(!cudaEventSynchronize(e) && pin[3] == 5, "event wait");
    set<<<1, 32, 0, s>>>(a, 7);
    cudaEventRecord(e, s);
    cudaStreamWaitEvent(t, e, 0);
    cudaMemcpyAsync(b, a, 128, cudaMemcpyDeviceToDevice, t);
    cudaMemcpyAsync(pin, b, 128, cudaMemcpyDeviceToHost, t);
    check(!cudaStreamSynchronize(t) && pin[9] == 7, "stream order by an event");
    set<<<1, 32, 0, s>>>(a, 9);
    cudaMemcpyAsync(pin, a, 128, cudaMemcpyDeviceToHost,
                    t);  // no event: the newer stream may be first
    check(!cudaStreamSynchronize(t) && pin[9] == 7, "missing order between streams shows");
    check(!cudaDeviceSynchronize(), "device wait");
    int h[32];
    for (int& v : h) v = 1;
    cudaMemcpyAsync(b, h, 128, cudaMemcpyHostToDevice, s);
    for (int& v : h) v = 100;  // pageable source was read at the call
    add_to<<<1, 32, 0, s>>>(a, b);
    cudaMemcpyAsync(h, a, 128, cudaMemcpyDeviceToHost, s);
    check(h[4] == 10, "pageable copies");
    for (int k = 0; k < 32; ++k) pin[k] = 2;
    cudaMemcpyAsync(b, pin, 128, cudaMemcpyHostToDevice, s);
    for (int k = 0; k < 32; ++k) pin[k] = 50;  // too early
    add_to<<<1, 32, 0, s>>>(a, b);
    cudaStreamSynchronize(s);
    cudaMemcpy(h, a, 128, cudaMemcpyDeviceToHost);
    check(h[4] == 60, "overwriting pinned memory under way shows");
    cudaStream_t blk;
    cudaStreamCreate(&blk);
    set<<<1, 32, 0, blk>>>(a, 3);
    set<<<1, 32>>>(b, 4);             // legacy stream waits for blk
    add_to<<<1, 32, 0, blk>>>(a, b);  // and blk for it
    cudaMemcpy(h, a, 128, cudaMemcpyDeviceToHost);
    check(h[0] == 7, "legacy stream and blocking streams");
    cudaEventRecord(e, s);
    set<<<1, 32, 0, s>>>(a, 1);
    cudaEventRecord(f, s);
    while (cudaEventQuery(f) == cudaErrorNotReady) {
    }
    float ms = -1;
    check(!cudaEventElapsedTime(&ms, e, f) && ms >= 0, "polling and timing");
    check(!cudaFreeAsync(a, s) && !cudaStreamDestroy(s) && !cudaFree(b) && !cudaFreeHost(pin),
          "free");
    return finish();
}
