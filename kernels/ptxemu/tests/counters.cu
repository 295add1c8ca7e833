// Kernels whose counters are known; check_counters.sh compares them.
#include "common.h"

__global__ void copy(float* to, const float* from) { to[threadIdx.x] = from[threadIdx.x]; }
__global__ void gather(float* to, const float* from) { to[threadIdx.x] = from[threadIdx.x * 8]; }
__global__ void columns(float* a) {
    __shared__ float tile[32][32];
    tile[threadIdx.x][0] = a[threadIdx.x];
    __syncwarp();
    a[threadIdx.x] = tile[threadIdx.x ^ 1][0];
}
// Two blocks read the same, and write beside each other.
__global__ void twice(float* to, const float* from) {
    to[blockIdx.x * 32 + threadIdx.x] = from[threadIdx.x];
}

int main() {
    Dev<float> a(std::vector<float>(1024)), b(1024);
    copy<<<1, 1024>>>(b.p, a.p);
    gather<<<1, 128>>>(b.p, a.p);
    columns<<<1, 32>>>(a.p);
    for (int launch = 0; launch < 3; ++launch) twice<<<2, 32>>>(b.p, a.p);
    return !cuda_ok();
}
