// cp.async groups and zero fill, mbarrier pipelines, bulk copies.

// arch: 90

#include "common.h"
__device__ u32 sm32(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__global__ void pipeline(const float* a, float* o,
                         int n) {  // 4-byte, 8-byte and 16-byte copies, several groups in flight
    __shared__ __align__(16) float s[4][128];
    int t = threadIdx.x;
    for (int g = 0; g < 3; ++g) {
        asm volatile(
            "cp.async.ca.shared.global [%0], [%1], 4; cp.async.commit_group;" ::"r"(sm32(&s[g][t])),
            "l"(a + g * 128 + t)
            : "memory");
    }
    float acc = 0;
    for (int g = 0; g < n; ++g) {
        if (g + 3 < n)
            asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(sm32(&s[(g + 3) & 3][t])),
                         "l"(a + (g + 3) * 128 + t)
                         : "memory");
        asm volatile("cp.async.commit_group; cp.async.wait_group 3;" ::: "memory");
        __syncthreads();
        acc = acc * 0.5f + s[g & 3][127 - t];
        __syncthreads();
    }
    o[t] = acc;
}
__global__ void zfill(const u32* a, u32* o) {
    __shared__ __align__(16) u32 s[32][4];
    __shared__ __align__(16) u32 q[32][2];
    int t = threadIdx.x;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sm32(s[t])), "l"(a + t * 4),
                 "r"((t % 5) * 4)
                 : "memory");
    asm volatile(
        "{.reg .pred p; setp.eq.u32 p, %2, 3; cp.async.ca.shared.global [%0], [%1], 8, p;}" ::"r"(
            sm32(q[t])),
        "l"(a + t * 2), "r"(t)
        : "memory");
    asm volatile("cp.async.wait_all;" ::: "memory");
    for (int k = 0; k < 4; ++k) o[t * 6 + k] = s[t][k];
    for (int k = 0; k < 2; ++k) o[t * 6 + 4 + k] = q[t][k];
}
__device__ void wait_parity(u64* b, u32 ph) {
    asm volatile(
        "{.reg .pred p; L1: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @p bra L2; bra "
        "L1; L2:}" ::"r"(sm32(b)),
        "r"(ph)
        : "memory");
}
__global__ void bulk(const float* a, float* o,
                     int rounds) {  // one producer thread, everybody consumes, two stages
    __shared__ __align__(128) float s[2][256];
    __shared__ __align__(128) float res[256];
    __shared__ u64 full[2], empty[2];
    int t = threadIdx.x;
    if (t == 0) {
        for (int k = 0; k < 2; ++k) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(sm32(&full[k])));
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 128;" ::"r"(sm32(&empty[k])));
        }
        asm volatile("fence.mbarrier_init.release.cluster;");
    }
    __syncthreads();
    float acc = 0;
    for (int r = 0; r < rounds; ++r) {
        int st = r & 1;
        if (t == 0) {
            if (r >= 2) wait_parity(&empty[st], ((r >> 1) - 1) & 1);
            asm volatile(
                "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sm32(&full[st])),
                "r"(1024)
                : "memory");
            asm volatile(
                "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
                "[%3];" ::"r"(sm32(s[st])),
                "l"(a + r * 256), "r"(1024), "r"(sm32(&full[st]))
                : "memory");
        }
        wait_parity(&full[st], (r >> 1) & 1);
        acc += s[st][t] * s[st][255 - t];
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sm32(&empty[st])) : "memory");
    }
    res[t] = acc;
    res[128 + t] = -acc;
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (t == 0)
        asm volatile(
            "cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 1024; "
            "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;" ::"l"(o),
            "r"(sm32(res))
            : "memory");
}
__global__ void async_arrive(
    const int* a, int* o) {  // cp.async completing an mbarrier, producer warps and a consumer warp
    __shared__ __align__(16) int s[256];
    __shared__ u64 bar;
    int t = threadIdx.x;
    if (t == 0) asm volatile("mbarrier.init.shared::cta.b64 [%0], 64;" ::"r"(sm32(&bar)));
    __syncthreads();
    if (t < 64) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(sm32(s + t * 4)),
                     "l"(a + t * 4)
                     : "memory");
        asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(sm32(&bar))
                     : "memory");
    } else {
        wait_parity(&bar, 0);
        for (int k = t - 64; k < 256; k += 32) o[k] = s[255 - k];
    }
}
int main() {
    {
        int n = 9;
        std::vector<float> a(128 * (n + 3));
        for (auto& v : a) v = rndf();
        Dev<float> d(a), o(128);
        pipeline<<<2, 128>>>(d.p, o.p, n);
        bool ok = cuda_ok();
        auto r = o.get();
        for (int t = 0; t < 128; ++t) {
            float acc = 0;
            for (int g = 0; g < n; ++g) acc = fmaf(acc, 0.5f, a[g * 128 + 127 - t]);
            ok &= acc == r[t];
        }
        check(ok, "cp.async pipeline");
    }
    {
        auto a = ints32(128);
        Dev<u32> d(a), o(192);
        zfill<<<1, 32>>>(d.p, o.p);
        bool ok = cuda_ok();
        auto r = o.get();
        for (int t = 0; t < 32; ++t) {
            for (int k = 0; k < 4; ++k) ok &= r[t * 6 + k] == (k < t % 5 ? a[t * 4 + k] : 0);
            for (int k = 0; k < 2; ++k) ok &= r[t * 6 + 4 + k] == (t == 3 ? 0 : a[t * 2 + k]);
        }
        check(ok, "cp.async zero fill");
    }
    {
        int n = 7;
        std::vector<float> a(256 * n);
        for (auto& v : a) v = rndf();
        Dev<float> d(a), o(256);
        bulk<<<1, 128>>>(d.p, o.p, n);
        bool ok = cuda_ok();
        auto r = o.get();
        for (int t = 0; t < 128; ++t) {
            float acc = 0;
            for (int k = 0; k < n; ++k) acc = fmaf(a[k * 256 + t], a[k * 256 + 255 - t], acc);
            ok &= fabsf(acc - r[t]) < 1e-5f && r[128 + t] == -r[t];
        }
        check(ok, "mbarrier and bulk copies");
    }
    {
        std::vector<int> a(256);
        for (int i = 0; i < 256; ++i) a[i] = i * 7;
        Dev<int> d(a), o(256);
        async_arrive<<<1, 96>>>(d.p, o.p);
        bool ok = cuda_ok();
        auto r = o.get();
        for (int i = 0; i < 256; ++i) ok &= r[i] == a[255 - i];
        check(ok, "cp.async mbarrier arrive");
    }
    return finish();
}
