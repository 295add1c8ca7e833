// The runtime API itself.
#include "common.h"
__global__ void add(float* a, float v, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) a[i] += v;
}
__global__ void big(float* a) {
    extern __shared__ float s[];
    s[threadIdx.x] = a[threadIdx.x];
    __syncthreads();
    a[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}
__global__ void __launch_bounds__(64) limited(int* a) { a[threadIdx.x] = 1; }
__constant__ int cst[4];
__device__ float dev[8];
__global__ void use_constants(int* o) { o[threadIdx.x] = cst[threadIdx.x] + (int)dev[threadIdx.x]; }
int main() {
    int n = 0, dv = -1, maj = 0, opt = 0;
    check(cudaGetDeviceCount(&n) == 0 && n >= 1 && cudaSetDevice(0) == 0 &&
              cudaGetDevice(&dv) == 0 && dv == 0,
          "devices");
    check(cudaSetDevice(99) == cudaErrorInvalidDevice &&
              cudaGetLastError() == cudaErrorInvalidDevice && cudaGetLastError() == cudaSuccess,
          "errors are remembered once");
    cudaDeviceProp p;
    check(cudaGetDeviceProperties(&p, 0) == 0 && p.major >= 8 && p.warpSize == 32 &&
              p.multiProcessorCount > 0,
          "properties");
    cudaDeviceGetAttribute(&maj, cudaDevAttrComputeCapabilityMajor, 0);
    cudaDeviceGetAttribute(&opt, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
    check(maj == p.major && opt == (int)p.sharedMemPerBlockOptin, "attributes");
    std::vector<float> h(1000);
    for (int i = 0; i < 1000; ++i) h[i] = (float)i;
    float *d, *pin;
    cudaStream_t st;
    cudaEvent_t a, b;
    check(!cudaStreamCreateWithFlags(&st, cudaStreamNonBlocking) && !cudaEventCreate(&a) &&
              !cudaEventCreate(&b),
          "streams and events");
    check(!cudaMallocAsync((void**)&d, 4000, st) && !cudaMallocHost((void**)&pin, 4000),
          "allocation");
    memcpy(pin, h.data(), 4000);
    cudaEventRecord(a, st);
    cudaMemcpyAsync(d, pin, 4000, cudaMemcpyHostToDevice, st);
    add<<<8, 128, 0, st>>>(d, 1.5f, 1000);
    add<<<8, 128, 0, st>>>(pin, 2.0f, 1000);  // pinned memory from a kernel
    cudaMemcpyAsync(h.data(), d, 4000, cudaMemcpyDeviceToHost, st);
    cudaEventRecord(b, st);
    check(!cudaStreamSynchronize(st) && h[10] == 11.5f && pin[10] == 12.0f, "copies and kernels");
    float ms = -1;
    check(!cudaEventElapsedTime(&ms, a, b) && ms >= 0, "timing");
    check(!cudaMemsetAsync(d, 0, 4000, st) && !cudaStreamSynchronize(st) &&
              !cudaMemcpy(h.data(), d, 4000, cudaMemcpyDefault) && h[999] == 0,
          "fill");
    float* d2;
    size_t pitch;
    check(!cudaMallocPitch((void**)&d2, &pitch, 40, 5) && pitch >= 40, "pitch");
    for (int i = 0; i < 50; ++i) h[i] = (float)i;
    cudaMemcpy2D(d2, pitch, h.data(), 40, 40, 5, cudaMemcpyHostToDevice);
    std::vector<float> g(50);
    cudaMemcpy2D(g.data(), 40, d2, pitch, 40, 5, cudaMemcpyDeviceToHost);
    check(g[49] == 49 && g[13] == 13, "2D copies");
    size_t fr, tot;
    check(!cudaMemGetInfo(&fr, &tot) && fr < tot && !cudaFreeAsync(d, st) && !cudaFreeHost(pin) &&
              !cudaFree(d2) && !cudaFree(nullptr),
          "free");
    void* huge = (void*)1;
    check(cudaMalloc(&huge, 1ull << 50) == cudaErrorMemoryAllocation &&
              cudaGetLastError() == cudaErrorMemoryAllocation,
          "out of memory");
    Dev<float> v(1024);
    std::vector<float> up(1024);
    for (int i = 0; i < 1024; ++i) up[i] = (float)i;
    cudaMemcpy(v.p, up.data(), 4096, cudaMemcpyHostToDevice);
    big<<<1, 1024, 100 * 1024>>>(v.p);
    check(cudaGetLastError() == cudaErrorInvalidValue,
          "too much dynamic shared memory without the attribute");
    check(!cudaFuncSetAttribute(big, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 * 1024),
          "attribute");
    big<<<1, 1024, 100 * 1024>>>(v.p);
    check(!cudaGetLastError() && cuda_ok() && v.get()[0] == 1023, "large dynamic shared memory");
    check(cudaFuncSetAttribute(big, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 20) ==
              cudaErrorInvalidValue,
          "attribute beyond the device");
    cudaGetLastError();
    add<<<1, 2000>>>(v.p, 1, 10);
    check(cudaGetLastError() == cudaErrorInvalidConfiguration, "block too large");
    limited<<<1, 128>>>((int*)v.p);
    check(cudaGetLastError() != cudaSuccess, "launch bounds");
    int blocks = 0;
    cudaFuncAttributes fa;
    check(!cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add, 256, 0) && blocks > 0 &&
              !cudaFuncGetAttributes(&fa, limited) && fa.maxThreadsPerBlock == 64,
          "occupancy and function attributes");
    int gs = 0, bs = 0;
    check(!cudaOccupancyMaxPotentialBlockSize(&gs, &bs, add, 0, 0) && bs > 0 && gs > 0,
          "potential block size");
    int hc[4] = {1, 2, 3, 4};
    float hd[8] = {10, 20, 30, 40};
    void* sym;
    check(!cudaMemcpyToSymbol(cst, hc, 16) && !cudaMemcpyToSymbol(dev, hd, 32) &&
              !cudaGetSymbolAddress(&sym, dev),
          "symbols");
    Dev<int> o(4);
    use_constants<<<1, 4>>>(o.p);
    check(cuda_ok() && o.get()[3] == 44, "constants from the host");
    cudaLaunchConfig_t cfg = {};
    cfg.gridDim = dim3(2);
    cfg.blockDim = dim3(64);
    cfg.stream = st;
    cudaMemset(v.p, 0, 4096);
    cudaDeviceSynchronize();
    check(!cudaLaunchKernelEx(&cfg, add, v.p, 3.0f, 100) && cuda_ok() && v.get()[99] == 3 &&
              v.get()[100] == 0,
          "cudaLaunchKernelEx");
    void* fn = (void*)1;
    cudaDriverEntryPointQueryResult q;
    check(!cudaGetDriverEntryPointByVersion("cuNoSuchThing", &fn, 12000, cudaEnableDefault, &q) &&
              fn == nullptr && q == cudaDriverEntryPointSymbolNotFound,
          "driver entry point not found");
    check(!strcmp(cudaGetErrorName(cudaErrorIllegalAddress), "cudaErrorIllegalAddress") &&
              strlen(cudaGetErrorString(cudaErrorIllegalAddress)) > 5,
          "error names");
    cudaPointerAttributes pa;
    check(!cudaPointerGetAttributes(&pa, v.p) && pa.type == cudaMemoryTypeDevice,
          "pointer attributes");
    int ver = 0;
    check(
        !cudaRuntimeGetVersion(&ver) && ver >= 13000 && !cudaDriverGetVersion(&ver) && ver >= 13000,
        "versions");
    return finish();
}
