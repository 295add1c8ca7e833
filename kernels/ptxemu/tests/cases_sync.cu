// Planted faults at barriers and warp-wide instructions.
#include "cases.h"

__global__ void skips_barrier(int* a) {
    if (threadIdx.x >= 32) asm volatile("bar.sync 1, 96;");
    a[threadIdx.x] = 1;
}
FAULT(barrier_count, "BARRIER DIVERGENCE") {
    Dev<int> a(96);
    skips_barrier<<<1, 96>>>(a.p);
}

__global__ void barrier_in_branches(int* a) {
    __shared__ int s[64];
    s[threadIdx.x] = a[threadIdx.x];
    if (threadIdx.x & 1) {
        asm volatile("bar.sync 0;");
        a[threadIdx.x] = s[threadIdx.x ^ 1] * 3;
        asm volatile("bar.sync 0;");
    } else {
        asm volatile("bar.sync 0;");
        a[threadIdx.x] = s[threadIdx.x ^ 1] - 7;
        asm volatile("bar.sync 0;");
    }
}
FAULT(barrier_divergent, "BARRIER DIVERGENCE") {
    Dev<int> a(std::vector<int>(64));
    barrier_in_branches<<<1, 64>>>(a.p);
}

__global__ void exit_before_barrier(int* a, int n) {
    __shared__ int s[128];
    if ((int)threadIdx.x >= n) return;
    s[threadIdx.x] = 1;
    __syncthreads();
    a[threadIdx.x] = s[n - 1 - threadIdx.x];
}
FAULT(barrier_exited, "BARRIER DIVERGENCE") {
    Dev<int> a(128);
    exit_before_barrier<<<1, 128>>>(a.p, 100);
}
SILENT(barrier_exit_allowed, "PTXEMU_EXIT_OK=1") {
    Dev<int> a(128);
    exit_before_barrier<<<1, 128>>>(a.p, 100);
    check(a.get()[99] == 1, "threads before the exit");
}

// expects one arrival too many
__global__ void incomplete_mbarrier(int* a) {
    __shared__ u64 b;
    u32 p = (u32)__cvta_generic_to_shared(&b);
    if (threadIdx.x == 0) asm volatile("mbarrier.init.shared.b64 [%0], 33;" ::"r"(p));
    __syncthreads();
    asm volatile(
        "{.reg .b64 s; .reg .pred q; mbarrier.arrive.shared.b64 s, [%0]; "
        "W: mbarrier.test_wait.shared.b64 q, [%0], s; @!q bra W;}" ::"r"(p)
        : "memory");
    a[threadIdx.x] = 1;
}
FAULT(mbarrier_incomplete, "never completes") {
    Dev<int> a(32);
    incomplete_mbarrier<<<1, 32>>>(a.p);
}

__global__ void shuffle_from_exited(int* a) {
    if (threadIdx.x >= 20) return;
    a[threadIdx.x] = __shfl_down_sync(~0u, a[threadIdx.x], 4);
}
FAULT(shuffle_lane, "WARP SYNC") {
    Dev<int> a(std::vector<int>(32));
    shuffle_from_exited<<<1, 32>>>(a.p);
}

// half of the lanes shuffle with the full mask while the others wait for a barrier
__global__ void shuffle_half(int* a) {
    int v = a[threadIdx.x];
    if (threadIdx.x < 16)
        asm volatile("{.reg .b32 t; shfl.sync.down.b32 t, %0, 8, 31, -1; mov.b32 %0, t;}"
                     : "+r"(v));
    else
        asm volatile("bar.warp.sync -1;");
    a[threadIdx.x] = v;
}
FAULT(shuffle_mask, "WARP SYNC") {
    Dev<int> a(std::vector<int>(32));
    shuffle_half<<<1, 32>>>(a.p);
}
