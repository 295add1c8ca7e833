// Planted faults in shared memory: races, contents, asynchronous copies.
#include "cases.h"

// blocks of n threads over n zeroed elements
template <class T, class K>
static void run_zeroed(K kernel, int n) {
    Dev<T> a(n);
    cudaMemset(a.p, 0, n * sizeof(T));
    kernel<<<1, n>>>(a.p);
    cudaDeviceSynchronize();
}

__global__ void reverse_unordered(int* a) {
    __shared__ int s[64];
    s[threadIdx.x] = a[threadIdx.x];
    a[threadIdx.x] = s[63 - threadIdx.x];
}
FAULT(race_read_after_write, "SHARED RACE") { run_zeroed<int>(reverse_unordered, 64); }

// the second round overwrites what others still read
__global__ void reverse_rounds(int* a) {
    __shared__ int s[64];
    for (int r = 0; r < 3; ++r) {
        s[threadIdx.x] = a[threadIdx.x] + r;
        __syncthreads();
        a[threadIdx.x] += s[63 - threadIdx.x];
    }
}
FAULT(race_write_after_read, "SHARED RACE") { run_zeroed<int>(reverse_rounds, 64); }

__global__ void two_writers(int* a) {
    __shared__ int s[1];
    if (threadIdx.x % 32 == 0) s[0] = threadIdx.x;
    __syncthreads();
    a[threadIdx.x] = s[0];
}
FAULT(race_write_after_write, "SHARED RACE") { run_zeroed<int>(two_writers, 64); }

// of two neighbouring halves only one is ordered
__global__ void halves(u16* a) {
    __shared__ u16 s[128];
    s[threadIdx.x] = a[threadIdx.x];
    __syncwarp();
    u32 i = threadIdx.x < 32 ? threadIdx.x : (threadIdx.x == 40 ? 31 : threadIdx.x);
    a[threadIdx.x] = s[i];
}
FAULT(race_bytes, "SHARED RACE") { run_zeroed<u16>(halves, 64); }

__global__ void reverse_in_warp(int* a) {
    __shared__ volatile int s[32];
    s[threadIdx.x] = a[threadIdx.x];
    a[threadIdx.x] = s[31 - threadIdx.x];
}
FAULT(race_in_warp, "WARP RACE") { run_zeroed<int>(reverse_in_warp, 32); }

__global__ void half_written(int* a) {
    __shared__ int s[64];
    if (threadIdx.x < 32) s[threadIdx.x] = 1;
    __syncthreads();
    a[threadIdx.x] = s[threadIdx.x];
}
FAULT(shared_uninitialised, "uninitialised shared memory") { run_zeroed<int>(half_written, 64); }

extern __shared__ int dynamic[];
__global__ void swap_pairs(int* a) {
    dynamic[threadIdx.x] = a[threadIdx.x];
    __syncthreads();
    a[threadIdx.x] = dynamic[threadIdx.x ^ 1];
}
FAULT(shared_oob, "OUT-OF-BOUNDS SHARED") {
    Dev<int> a(64);
    swap_pairs<<<1, 64, 63 * 4>>>(a.p);
}

static __device__ void copy_16_bytes(int* to, const int* from) {
    u32 d = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16; cp.async.commit_group;" ::"r"(d),
                 "l"(from)
                 : "memory");
}

__global__ void no_wait(const int* a, int* b) {
    __shared__ __align__(16) int s[128];
    copy_16_bytes(s + threadIdx.x * 4, a + threadIdx.x * 4);
    __syncthreads();
    b[threadIdx.x] = s[threadIdx.x];
}
FAULT(async_no_wait, "ASYNC COPY") {
    Dev<int> a(std::vector<int>(128)), b(32);
    no_wait<<<1, 32>>>(a.p, b.p);
}

// waits for the older group, reads the newer
__global__ void wrong_group(const int* a, int* b) {
    __shared__ __align__(16) int s[256];
    for (int g = 0; g < 2; ++g) copy_16_bytes(s + g * 128 + threadIdx.x * 4, a + threadIdx.x * 4);
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncthreads();
    b[threadIdx.x] = s[threadIdx.x] + s[128 + threadIdx.x];
}
FAULT(async_wrong_group, "ASYNC COPY") {
    Dev<int> a(std::vector<int>(128)), b(32);
    wrong_group<<<1, 32>>>(a.p, b.p);
}

// the issuing thread waits, but no barrier tells the others
__global__ void no_barrier(const int* a, int* b) {
    __shared__ __align__(16) int s[256];
    copy_16_bytes(s + threadIdx.x * 4, a + threadIdx.x * 4);
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    b[threadIdx.x] = s[(threadIdx.x * 4 + 128) % 256];
}
FAULT(async_no_barrier, "SHARED RACE") {
    Dev<int> a(std::vector<int>(256)), b(64);
    no_barrier<<<1, 64>>>(a.p, b.p);
}
