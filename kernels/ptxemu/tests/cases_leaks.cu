// What was never freed.

// env: PTXEMU_LEAKS=1

#include "cases.h"

namespace {

FAULT(leak_device, "4096 bytes of device memory were never freed") {
    void* p;
    cudaMalloc(&p, 4096);
}
FAULT(leak_site, "allocated in ") {
    void* p;
    cudaMalloc(&p, 4096);
}
FAULT(leak_pinned, "100 bytes of pinned memory were never freed") {
    void* p;
    cudaMallocHost(&p, 100);
}
FAULT(leak_stream, "was never destroyed") {
    cudaStream_t s;
    cudaStreamCreate(&s);
}
FAULT(leak_event, "an event was never destroyed") {
    cudaEvent_t e;
    cudaEventCreate(&e);
}
FAULT(leak_pool, "a memory pool was never destroyed") {
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location = {.type = cudaMemLocationTypeDevice, .id = 0};
    cudaMemPool_t pool;
    cudaMemPoolCreate(&pool, &properties);
}
__device__ int variable;
SILENT(leak_none) {
    void *p, *q, *r;
    cudaStream_t s;
    cudaEvent_t e;
    int v = 3;
    check(!cudaMemcpyToSymbol(variable, &v, sizeof v), "a variable lives as long as the program");
    check(!cudaStreamCreate(&s) && !cudaEventCreate(&e), "create");
    check(!cudaMalloc(&p, 64) && !cudaMallocHost(&q, 64) && !cudaMallocAsync(&r, 64, s),
          "allocate");
    check(!cudaFree(p) && !cudaFreeHost(q) && !cudaFreeAsync(r, s), "free");
    check(!cudaStreamDestroy(s) && !cudaEventDestroy(e), "destroy");
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location = {.type = cudaMemLocationTypeDevice, .id = 0};
    cudaMemPool_t pool;
    check(!cudaMemPoolCreate(&pool, &properties) && !cudaMemPoolDestroy(pool), "pool");
}

}  // namespace
