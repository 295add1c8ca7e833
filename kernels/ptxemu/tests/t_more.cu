// The rest: generic addressing, vector and 16/128-bit atomics, tables of branches, printf, clocks,
// packed f32, policies.

// arch: 90

#include <cuda_bf16.h>
#include <unistd.h>

#include "common.h"
__device__ int sum4(const int* p) {
    int s = 0;
    for (int k = 0; k < 4; ++k) s += p[k];
    return s;
}
__global__ void generic(const int* g, int* o, bool* sp) {
    __shared__ int s[64];
    int l[8];
    int t = threadIdx.x;
    s[t] = t * 3;
    for (int k = 0; k < 8; ++k) l[(k + t) & 7] = k * t;
    __syncthreads();
    const int* p = t % 3 == 0   ? g + t
                   : t % 3 == 1 ? &s[t & ~3]
                                : &l[t & 4];  // one load, three spaces
    o[t] = sum4(p);
    if (t == 0) {
        sp[0] = __isShared(s);
        sp[1] = __isGlobal(g);
        sp[2] = __isLocal(l);
        sp[3] = __isShared(g);
    }
}
__global__ void vector_atomics(float* f, __nv_bfloat16* b, unsigned short* h, ulonglong2* w) {
    float a, c;
    asm volatile("atom.global.add.v2.f32 {%0, %1}, [%2], {%3, %4};"
                 : "=f"(a), "=f"(c)
                 : "l"(f), "f"(1.0f), "f"(2.0f)
                 : "memory");
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(f + 4), "f"(1.0f), "f"(2.0f),
                 "f"(3.0f), "f"(4.0f)
                 : "memory");
    asm volatile("red.global.add.noftz.bf16 [%0], %1;" ::"l"(b), "h"((unsigned short)0x3f80)
                 : "memory");
    unsigned short old = *(volatile unsigned short*)h, got;
    do {
        got = old;
        asm volatile("atom.global.cas.b16 %0, [%1], %2, %3;"
                     : "=h"(old)
                     : "l"(h), "h"(got), "h"((unsigned short)(got + 1))
                     : "memory");
    } while (old != got);
    if (threadIdx.x == 5)
        asm volatile(
            "{.reg .b128 x, y; mov.b128 x, {%1, %2}; atom.global.exch.b128 y, [%0], x;}" ::"l"(w),
            "l"(7ull), "l"(9ull)
            : "memory");
}
__global__ void table(const int* in, int* o) {
    int t = threadIdx.x, v = in[t], r;
    asm volatile(
        "{.reg .u32 q; and.b32 q, %1, 3; ts: .branchtargets A0, A1, A2, A3; brx.idx q, ts; A0: "
        "mov.u32 %0, 10; bra Z; A1: mov.u32 %0, 21; bra Z; A2: mov.u32 %0, 32; bra Z; A3: mov.u32 "
        "%0, 43; Z: }"
        : "=r"(r)
        : "r"(v));
    o[t] = r;
}
__global__ void misc(u64* o, float* f) {
    int t = threadIdx.x;
    long long c0 = clock64();
    __nanosleep(100);
    o[0] = clock64() > c0;
    u32 el;
    asm volatile("{.reg .pred p; elect.sync _|p, -1; selp.u32 %0, 1, 0, p;}" : "=r"(el));
    o[1 + t] = el;
    u64 pol;
    float v;
    asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(pol));
    asm volatile("ld.global.L2::cache_hint.f32 %0, [%1], %2;" : "=f"(v) : "l"(f + t), "l"(pol));
    asm volatile("prefetch.global.L2 [%0];" ::"l"(f));
    asm volatile("st.global.cs.f32 [%0], %1;" ::"l"(f + 32 + t), "f"(v * 2) : "memory");
    asm volatile("barrier.sync 3; fence.acq_rel.gpu; membar.gl;" ::: "memory");
    u32 m;
    asm volatile("match.any.sync.b64 %0, %1, -1;" : "=r"(m) : "l"((u64)(t / 4)));
    o[40 + t] = m;
}
__global__ void say(int x, const char* s) {
    if (threadIdx.x == 1)
        printf("x=%d %5.2f|%s|%llu %c%% %x\n", x, 1.5 * x, s, 1ull << 40, 'q', 255);
}
__global__ void early(int* o, int n) {  // whole warps leave, the rest uses warp collectives only
    int t = threadIdx.x;
    if (t >= n) return;
    o[t] = __shfl_xor_sync(__activemask(), t, 1);
}
__global__ void dynamic_index(float* o) {
    extern __shared__ double d[];
    float* f = (float*)(d + blockDim.x);
    d[threadIdx.x] = threadIdx.x;
    f[threadIdx.x] = 2.0f;
    __syncthreads();
    o[threadIdx.x] = (float)d[blockDim.x - 1 - threadIdx.x] * f[threadIdx.x];
}
struct Shape {
    __device__ virtual float area(float x) const = 0;
};
struct Sq : Shape {
    __device__ float area(float x) const override { return x * x; }
};
struct Ci : Shape {
    float k;
    __device__ Ci(float k) : k(k) {}
    __device__ float area(float x) const override { return k * x + 1; }
};
__device__ float f0(float x) { return x + 1; }
__device__ float f1(float x) { return x * 2; }
__device__ float f2(float x) { return x - 3; }
__device__ float (*const fns[3])(float) = {f0, f1, f2};
__global__ void indirect(const int* sel, float* o) {
    int t = threadIdx.x;
    Sq s;
    Ci c(3);
    const Shape* p = sel[t] & 8 ? (const Shape*)&s : (const Shape*)&c;
    o[t] = fns[(u32)sel[t] % 3]((float)t) + p->area((float)t);
}
int main() {
    {
        std::vector<int> in(64);
        for (auto& v : in) v = (int)(rnd() & 0xffff);
        Dev<int> d(in);
        Dev<float> o(64);
        indirect<<<1, 64>>>(d.p, o.p);
        bool ok = cuda_ok();
        auto r = o.get();
        for (int t = 0; t < 64; ++t) {
            int k = in[t] % 3;
            ok &= r[t] == (k == 0   ? t + 1
                           : k == 1 ? t * 2
                                    : t - 3) +
                              (in[t] & 8 ? t * t : 3 * t + 1);
        }
        check(ok, "function pointers and virtual functions");
    }
    {
        std::vector<int> g(80);
        for (int i = 0; i < 80; ++i) g[i] = i * i;
        Dev<int> dg(g), o(64);
        Dev<bool> sp(4);
        generic<<<1, 64>>>(dg.p, o.p, sp.p);
        bool ok = cuda_ok();
        auto r = o.get();
        for (int t = 0; t < 64; ++t) {
            int s = 0;
            for (int k = 0; k < 4; ++k)
                s += t % 3 == 0   ? g[t + k]
                     : t % 3 == 1 ? ((t & ~3) + k) * 3
                                  : ((((t & 4) + k) - t) & 7) * t;
            ok &= r[t] == s;
        }
        bool q[4];
        cudaMemcpy(q, sp.p, 4, cudaMemcpyDeviceToHost);
        check(ok && q[0] && q[1] && q[2] && !q[3], "generic addresses");
    }
    {
        Dev<float> f(std::vector<float>(8, 0));
        Dev<__nv_bfloat16> b(2);
        Dev<unsigned short> h(std::vector<unsigned short>{100, 0});
        Dev<ulonglong2> w(std::vector<ulonglong2>{{1, 2}});
        cudaMemset(b.p, 0, 4);
        vector_atomics<<<1, 64>>>(f.p, b.p, h.p, w.p);
        bool ok = cuda_ok();
        auto r = f.get();
        check(ok && r[0] == 64 && r[1] == 128 && r[4] == 64 && r[7] == 256 &&
                  __bfloat162float(b.get()[0]) == 64 && h.get()[0] == 164 && w.get()[0].x == 7 &&
                  w.get()[0].y == 9,
              "vector, 16-bit and 128-bit atomics");
    }
    {
        std::vector<int> in(64);
        for (auto& v : in) v = (int)rnd();
        Dev<int> d(in), o(64);
        table<<<1, 64>>>(d.p, o.p);
        bool ok = cuda_ok();
        auto r = o.get();
        for (int t = 0; t < 64; ++t) ok &= r[t] == (in[t] & 3) * 11 + 10;
        check(ok, "brx.idx");
    }
    {
        std::vector<float> in(64, 3);
        Dev<float> f(in);
        Dev<u64> o(72);
        misc<<<1, 32>>>(o.p, f.p);
        bool ok = cuda_ok();
        auto r = o.get();
        for (int t = 0; t < 32; ++t) ok &= r[1 + t] == (t == 0) && r[40 + t] == 0xfull << (t & ~3);
        check(ok && r[0] == 1 && f.get()[40] == 6, "clock, elect, hints, match");
    }
    {
        char path[] = "ptxemu_say_XXXXXX";
        int fd = mkstemp(path), keep = dup(1);
        fflush(stdout);
        dup2(fd, 1);
        const char* s = "str";
        char* d;
        cudaMalloc(&d, 4);
        cudaMemcpy(d, s, 4, cudaMemcpyHostToDevice);
        say<<<1, 32>>>(7, d);
        bool ok = cuda_ok();
        fflush(stdout);
        dup2(keep, 1);
        char buf[200] = {};
        lseek(fd, 0, SEEK_SET);
        if (read(fd, buf, 199) < 0) ok = false;
        unlink(path);
        check(ok && !strcmp(buf, "x=7 10.50|str|1099511627776 q% ff\n"), "printf");
    }
    {
        Dev<int> o(128);
        early<<<1, 128>>>(o.p, 64);
        bool ok = cuda_ok();
        auto r = o.get();
        for (int t = 0; t < 64; ++t) ok &= r[t] == (t ^ 1);
        check(ok, "whole warps exit early");
        Dev<float> f(50);
        dynamic_index<<<1, 50, 50 * 12>>>(f.p);
        ok = cuda_ok();
        auto q = f.get();
        for (int t = 0; t < 50; ++t) ok &= q[t] == (49 - t) * 2.0f;
        check(ok, "dynamic shared memory in two types");
    }
    return finish();
}
