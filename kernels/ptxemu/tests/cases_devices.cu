// Device profiles, and what registers and shared memory allow on them.
#include "cases.h"

namespace {

int attribute(cudaDeviceAttr a) {
    int v = -1;
    check(!cudaDeviceGetAttribute(&v, a, 0), "attribute");
    return v;
}
void expect(const char* name, int capability, int sms, int shared, int per_block, int threads,
            double gib) {
    cudaDeviceProp p;
    size_t free, total;
    check(!cudaGetDeviceProperties(&p, 0) && strstr(p.name, name), "name");
    check(p.major * 10 + p.minor == capability &&
              attribute(cudaDevAttrComputeCapabilityMajor) == p.major &&
              attribute(cudaDevAttrComputeCapabilityMinor) == p.minor,
          "compute capability");
    check(p.multiProcessorCount == sms && attribute(cudaDevAttrMultiProcessorCount) == sms, "SMs");
    check((int)p.sharedMemPerMultiprocessor == shared &&
              attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor) == shared,
          "shared memory");
    check((int)p.sharedMemPerBlockOptin == per_block &&
              attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) == per_block,
          "shared memory of a block");
    check(p.maxThreadsPerMultiProcessor == threads &&
              attribute(cudaDevAttrMaxThreadsPerMultiProcessor) == threads,
          "threads");
    check(p.regsPerMultiprocessor == 65536 && attribute(cudaDevAttrMaxRegistersPerBlock) == 65536,
          "registers");
    check(!cudaMemGetInfo(&free, &total) && total == (size_t)(gib * (1 << 30)) &&
              p.totalGlobalMem == total && free <= total,
          "memory");
    check(attribute(cudaDevAttrL2CacheSize) == p.l2CacheSize &&
              attribute(cudaDevAttrGlobalMemoryBusWidth) == p.memoryBusWidth &&
              attribute(cudaDevAttrClockRate) > 1000000 &&
              attribute(cudaDevAttrMemoryClockRate) > 1000000,
          "clocks and caches");
}
SILENT(device_default) { expect("A100", 80, 108, 167936, 166912, 2048, 40); }
SILENT(device_a100, "PTXEMU_DEVICE=a100") { expect("A100", 80, 108, 167936, 166912, 2048, 40); }
SILENT(device_h100, "PTXEMU_DEVICE=h100") { expect("H100", 90, 132, 233472, 232448, 2048, 80); }
SILENT(device_consumer, "PTXEMU_DEVICE=consumer") {
    expect("consumer", 89, 128, 102400, 101376, 1536, 24);
}
SILENT(device_memory, "PTXEMU_MEM_MB=512") {
    expect("A100", 80, 108, 167936, 166912, 2048, 0.5);
    void* p;
    check(cudaMalloc(&p, 513 << 20) == cudaErrorMemoryAllocation && !cudaMalloc(&p, 100 << 20) &&
              !cudaFree(p),
          "limit");
}

SILENT(device_bus_id, "PTXEMU_DEVICES=2") {
    char id[20];
    int d = -1;
    check(!cudaDeviceGetPCIBusId(id, sizeof id, 1) && !cudaDeviceGetByPCIBusId(&d, id) && d == 1,
          "there and back");
    check(cudaDeviceGetPCIBusId(id, sizeof id, 2) == cudaErrorInvalidDevice, "no such device");
}

__global__ void where(u32* a) { asm volatile("mov.u32 %0, %%nsmid;" : "=r"(a[0])); }
SILENT(device_sms, "PTXEMU_DEVICE=h100") {
    Dev<u32> a(1);
    where<<<1, 1>>>(a.p);
    check(a.get()[0] == 132, "number of SMs in a kernel");
}

// ---------------------------------------------------------------- shared memory

extern __shared__ char tile[];
__global__ void use_tile(int* a) {
    tile[threadIdx.x] = (char)threadIdx.x;
    __syncthreads();
    a[threadIdx.x] = tile[31 - threadIdx.x];
}
bool runs_with(size_t bytes) {
    bool allowed =
        !cudaFuncSetAttribute(use_tile, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    cudaGetLastError();
    Dev<int> a(32);
    use_tile<<<1, 32, bytes>>>(a.p);
    return cudaGetLastError() == cudaSuccess && cuda_ok() && allowed && a.get()[0] == 31;
}
SILENT(shared_a100) { check(runs_with(166912) && !runs_with(166912 + 16), "163 KB"); }
SILENT(shared_h100, "PTXEMU_DEVICE=h100") {
    check(runs_with(232448) && !runs_with(232448 + 16), "227 KB");
}
SILENT(shared_consumer, "PTXEMU_DEVICE=consumer") {
    check(runs_with(101376) && !runs_with(101376 + 16), "99 KB");
}

int resident(int threads, size_t shared) {
    int n = -1;
    check(!cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n, use_tile, threads, shared),
          "occupancy");
    return n;
}
SILENT(occupancy_a100) {
    check(!cudaFuncSetAttribute(use_tile, cudaFuncAttributeMaxDynamicSharedMemorySize, 80 * 1024),
          "attribute");
    check(resident(32, 0) == 32 && resident(1024, 0) == 2, "by blocks and threads");
    check(resident(32, 80 * 1024) == 2 && resident(32, 40 * 1024) == 4,
          "by shared memory, 1 KB of each block is reserved");
    check(!cudaFuncSetAttribute(use_tile, cudaFuncAttributePreferredSharedMemoryCarveout, 25),
          "carveout");
    check(resident(32, 40 * 1024) < 4, "less of the cache for shared memory");
    check(cudaFuncSetAttribute(use_tile, cudaFuncAttributePreferredSharedMemoryCarveout, 101) ==
              cudaErrorInvalidValue,
          "percent");
    cudaGetLastError();
}
SILENT(occupancy_consumer, "PTXEMU_DEVICE=consumer") {
    check(resident(32, 0) == 24 && resident(1024, 0) == 1 && resident(512, 0) == 3,
          "1536 threads, 24 blocks");
    size_t bytes = 0;
    check(!cudaOccupancyAvailableDynamicSMemPerBlock(&bytes, use_tile, 2, 32) && bytes > 40000 &&
              bytes < 51200,
          "available");
}

// ---------------------------------------------------------------- registers

// Many values that are alive at once.
__global__ void hungry(float* a) {
    float v[160];
#pragma unroll
    for (int k = 0; k < 160; ++k) v[k] = a[k * blockDim.x + threadIdx.x];
#pragma unroll
    for (int r = 0; r < 3; ++r)
#pragma unroll
        for (int k = 0; k < 160; ++k) v[k] = v[k] * v[(k * 7 + 3) % 160] + v[(k + 80) % 160];
#pragma unroll
    for (int k = 0; k < 160; ++k) a[k * blockDim.x + threadIdx.x] = v[k];
}
__global__ void __launch_bounds__(1024) frugal(float* a) {
    float v = a[threadIdx.x];
    for (int k = 0; k < 10; ++k) v = v * v + 1;
    a[threadIdx.x] = v;
}
SILENT(registers_limit_launch) {
    Dev<float> a(std::vector<float>(160 * 1024));
    cudaFuncAttributes f, g;
    check(!cudaFuncGetAttributes(&f, hungry) && f.numRegs > 128 && f.numRegs <= 255,
          "registers of a large kernel");
    check(!cudaFuncGetAttributes(&g, frugal) && g.numRegs >= 8 && g.numRegs < 40 &&
              g.maxThreadsPerBlock == 1024,
          "and of a small one");
    check(f.maxThreadsPerBlock < 512 && f.maxThreadsPerBlock >= 256, "which limit the threads");
    hungry<<<1, 1024>>>(a.p);
    check(cudaGetLastError() == cudaErrorLaunchOutOfResources, "too many registers");
    hungry<<<1, 512>>>(a.p);
    check(cudaGetLastError() == cudaErrorLaunchOutOfResources, "too many still");
    hungry<<<1, 256>>>(a.p);
    check(!cudaGetLastError() && cuda_ok(), "enough");
    frugal<<<1, 1024>>>(a.p);
    check(!cudaGetLastError() && cuda_ok(), "a small kernel");
    int n = -1, m = -1;
    check(!cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n, hungry, 128, 0) && n >= 2 && n <= 3,
          "occupancy by registers");
    check(!cudaOccupancyMaxActiveBlocksPerMultiprocessor(&m, frugal, 128, 0) && m == 16,
          "occupancy by threads");
}

SILENT(cooperative_too_large) {
    Dev<float> a(1024);
    void* args[] = {&a.p};
    check(cudaLaunchCooperativeKernel(frugal, 217, 1024, args, 0, nullptr) ==
              cudaErrorCooperativeLaunchTooLarge,
          "109 SMs' worth");
    cudaGetLastError();
}

}  // namespace
