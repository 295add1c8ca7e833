// Shuffles, votes, match, redux, atomics, special registers, divergence, barriers.

// arch: 90

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "common.h"

__global__ void shuffles(const u32* in, u32* out) {
    u32 v = in[threadIdx.x], l = threadIdx.x & 31;
    u32 r[6];
    r[0] = __shfl_sync(~0u, v, (l * 7 + 3) & 31);
    r[1] = __shfl_up_sync(~0u, v, 3);
    r[2] = __shfl_down_sync(~0u, v, 5, 16);
    r[3] = __shfl_xor_sync(~0u, v, 9);
    r[4] = __shfl_sync(~0u, v, 2, 8);
    asm volatile(
        "{.reg .pred p; .reg .b32 t; shfl.sync.up.b32 t|p, %1, 4, 0, -1; selp.u32 %0, 1, 0, p;}"
        : "=r"(r[5])
        : "r"(v));
    for (int k = 0; k < 6; ++k) out[k * blockDim.x + threadIdx.x] = r[k];
}
__global__ void votes(const u32* in, u32* out) {
    u32 v = in[threadIdx.x];
    u32 r[10];
    r[0] = __ballot_sync(~0u, v & 1);
    r[1] = __any_sync(~0u, v > 4000000000u);
    r[2] = __all_sync(~0u, v != 12345);
    r[3] = __match_any_sync(~0u, v % 5);
    int pred;
    r[4] = __match_all_sync(~0u, threadIdx.x / 32, &pred) + pred;
    r[5] = __reduce_add_sync(~0u, v);
    r[6] = __reduce_min_sync(~0u, (int)v);
    r[7] = __reduce_max_sync(~0u, v);
    r[8] = __reduce_xor_sync(~0u, v);
    r[9] = 0;
    if (v & 2) r[9] = __activemask();
    for (int k = 0; k < 10; ++k) out[k * blockDim.x + threadIdx.x] = r[k];
}
__global__ void specials(u32* out) {
    u32 a, b, c, d, e;
    asm volatile(
        "mov.u32 %0, %%laneid; mov.u32 %1, %%lanemask_lt; mov.u32 %2, %%lanemask_ge; mov.u32 %3, "
        "%%warpid; mov.u32 %4, %%nctaid.y;"
        : "=r"(a), "=r"(b), "=r"(c), "=r"(d), "=r"(e));
    int t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    int blk = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    u32* o = out + (blk * blockDim.x * blockDim.y * blockDim.z + t) * 6;
    o[0] = a;
    o[1] = b;
    o[2] = c;
    o[3] = d;
    o[4] = e;
    o[5] = threadIdx.x | threadIdx.y << 8 | threadIdx.z << 16 | blockIdx.x << 20 |
           blockIdx.y << 24 | blockIdx.z << 28;
}
__global__ void atomics(u32* u, i32* s, unsigned long long* l, float* f, double* d, __half2* h,
                        __nv_bfloat162* b, u32* cas) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(&u[0], i);
    atomicMax(&u[1], i);
    atomicMin(&u[2], i + 5);
    atomicOr(&u[3], 1u << (i & 31));
    atomicXor(&u[4], i);
    atomicInc(&u[5], 10);
    atomicDec(&u[6], 7);
    atomicAnd(&u[7], ~(1u << (i & 7)));
    atomicMin(&s[0], -(i32)i);
    atomicMax(&s[1], (i32)i - 100);
    atomicSub(&s[2], 3);
    atomicAdd(&l[0], (unsigned long long)i << 20);
    atomicMax(&l[1], (unsigned long long)i * i * i);
    atomicAdd(&f[i & 3], 0.5f);
    atomicAdd(d, 0.25);
    atomicAdd(h, __floats2half2_rn(1, 2));
    atomicAdd(b, __floats2bfloat162_rn(1, 0.5f));
    for (u32 old = *(volatile u32*)cas, want; (want = atomicCAS(cas, old, old + 2)) != old;
         old = want) {
    }
    __shared__ u32 hist[16];
    if (threadIdx.x < 16) hist[threadIdx.x] = 0;
    __syncthreads();
    atomicAdd(&hist[i % 16], 1);
    u32 old = atomicExch(&u[16 + i], i + 1);
    __syncthreads();
    if (threadIdx.x < 16) atomicAdd(&u[8], hist[threadIdx.x] * (threadIdx.x + 1) + old);
}
__global__ void divergent(const u32* in, u32* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    u32 v = in[i] % 1000, steps = 0;
    while (v != 1 && v != 0) {  // collatz: every lane another trip count, shuffles after it
        v = v & 1 ? 3 * v + 1 : v / 2;
        if (++steps > 500) break;
        if (v % 7 == 3) continue;
        switch (v & 3) {
            case 0:
                steps += 0;
                break;
            case 1:
                steps ^= 0;
                break;
            default:
                break;
        }
    }
    u32 sum = steps;
    for (int o = 16; o; o >>= 1) sum += __shfl_xor_sync(~0u, sum, o);
    out[i] = steps;
    out[n + i] = sum;
}
__global__ void spin(u32* lock, u32* out) {  // lanes of one warp contend for a lock
    bool done = false;
    while (!done) {
        if (atomicCAS(lock, 0, 1) == 0) {
            *(volatile u32*)out = *(volatile u32*)out + 1;
            __threadfence();
            atomicExch(lock, 0);
            done = true;
        }
    }
}
__global__ void bar_reduce(u32* out) {
    int t = threadIdx.x;
    out[t] = __syncthreads_count(t % 3 == 0) * 4 + __syncthreads_and(t >= 0) * 2 +
             __syncthreads_or(t == 77);
}
__global__ void named_barriers(u32* out) {  // two producer warps, two consumer warps
    __shared__ u32 buf[64];
    int w = threadIdx.x / 32, t = threadIdx.x % 64;
    for (int r = 0; r < 5; ++r) {
        if (w < 2) {
            asm volatile("bar.sync 2, 128;" ::: "memory");
            buf[t] = t * 3 + r;
            asm volatile("bar.arrive 1, 128;" ::: "memory");
        } else {
            asm volatile("bar.arrive 2, 128;" ::: "memory");
            asm volatile("bar.sync 1, 128;" ::: "memory");
            out[r * 64 + t] = buf[63 - t];
        }
    }
}
__device__ u32 flag, order_[64];
__global__ void last_block(u32* out) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        order_[blockIdx.x] = blockIdx.x * 2;
        __threadfence();
        last = atomicAdd(&flag, 1) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last) {
        u32 s = 0;
        if (threadIdx.x == 0) {
            for (u32 k = 0; k < gridDim.x; ++k) s += order_[k];
            *out = s;
        }
    }
}

int main() {
    const int n = 256;
    auto in = ints32(n);
    for (int i = 0; i < n; ++i) in[i] = (u32)rnd();
    {
        Dev<u32> a(in), b(n * 6);
        shuffles<<<1, n>>>(a.p, b.p);
        bool ok = cuda_ok();
        auto r = b.get();
        for (int i = 0; i < n; ++i) {
            int w = i & ~31, l = i & 31;
            ok &= r[i] == in[w + ((l * 7 + 3) & 31)] && r[n + i] == in[l >= 3 ? i - 3 : i] &&
                  r[2 * n + i] == in[(l & 15) + 5 < 16 ? i + 5 : i] &&
                  r[3 * n + i] == in[w + (l ^ 9)] && r[4 * n + i] == in[w + (l & ~7) + 2] &&
                  r[5 * n + i] == (l >= 4);
        }
        check(ok, "shfl");
    }
    {
        Dev<u32> a(in), b(n * 10);
        votes<<<1, n>>>(a.p, b.p);
        bool ok = cuda_ok();
        auto r = b.get();
        for (int i = 0; i < n; ++i) {
            int w = i & ~31;
            u32 bal = 0, any = 0, all = 1, mt = 0, sum = 0, mx = 0, xr = 0, act = 0;
            int mn = 2147483647;
            for (int k = 0; k < 32; ++k) {
                u32 v = in[w + k];
                bal |= (v & 1) << k;
                any |= v > 4000000000u;
                all &= v != 12345;
                mt |= (u32)(v % 5 == in[i] % 5) << k;
                sum += v;
                mn = (int)v < mn ? (int)v : mn;
                mx = v > mx ? v : mx;
                xr ^= v;
                if (v & 2) act |= 1u << k;
            }
            ok &= r[i] == bal && r[n + i] == any && r[2 * n + i] == all && r[3 * n + i] == mt &&
                  r[4 * n + i] == ~0u + 1 && r[5 * n + i] == sum && r[6 * n + i] == (u32)mn &&
                  r[7 * n + i] == mx && r[8 * n + i] == xr && r[9 * n + i] == (in[i] & 2 ? act : 0);
        }
        check(ok, "vote match redux");
    }
    {
        dim3 g(3, 2, 2), b(8, 4, 3);
        Dev<u32> o(12 * 96 * 6);
        specials<<<g, b>>>(o.p);
        bool ok = cuda_ok();
        auto r = o.get();
        for (u32 k = 0; k < 12; ++k)
            for (u32 t = 0; t < 96; ++t) {
                u32 *x = &r[(k * 96 + t) * 6], l = t % 32;
                ok &= x[0] == l && x[1] == (1u << l) - 1 && x[2] == ~((1u << l) - 1) &&
                      x[3] == t / 32 && x[4] == 2 &&
                      x[5] == (t % 8 | t / 8 % 4 << 8 | t / 32 << 16 | k % 3 << 20 |
                               k / 3 % 2 << 24 | k / 6 << 28);
            }
        check(ok, "special registers");
    }
    {
        std::vector<u32> u0(16 + 512, 0);
        u0[2] = 1000;
        u0[5] = 4;
        u0[6] = 3;
        u0[7] = 0xffff;
        Dev<u32> u(u0), cas(std::vector<u32>{1});
        Dev<i32> s(std::vector<i32>{0, -1000, 10});
        Dev<unsigned long long> l(std::vector<unsigned long long>{0, 0});
        Dev<float> f(std::vector<float>{0, 1, 2, 3});
        Dev<double> d(std::vector<double>{1});
        Dev<__half2> h(1);
        Dev<__nv_bfloat162> b(1);
        cudaMemset(h.p, 0, 4);
        cudaMemset(b.p, 0, 4);
        atomics<<<4, 128>>>(u.p, s.p, l.p, f.p, d.p, h.p, b.p, cas.p);
        bool ok = cuda_ok();
        auto r = u.get();
        u32 sum = 0, xr = 0, inc = 4, dec = 3, hist = 0;
        u64 ls = 0;
        for (u32 i = 0; i < 512; ++i) {
            sum += i;
            xr ^= i;
            inc = inc >= 10 ? 0 : inc + 1;
            dec = dec == 0 || dec > 7 ? 7 : dec - 1;
            ls += (u64)i << 20;
            hist += i % 16 + 1;
            ok &= r[16 + i] == i + 1;
        }
        ok &= r[0] == sum && r[1] == 511 && r[2] == 5 && r[3] == ~0u && r[4] == xr && r[5] == inc &&
              r[6] == dec && r[7] == 0xff00 && r[8] == hist;
        check(ok, "atomics u32");
        auto sv = s.get();
        auto lv = l.get();
        auto fv = f.get();
        check(sv[0] == -511 && sv[1] == 411 && sv[2] == 10 - 1536 && lv[0] == ls &&
                  lv[1] == 511ull * 511 * 511,
              "atomics s32 u64");
        check(fv[0] == 64 && fv[3] == 67 && d.get()[0] == 129, "atomics float double");
        __half2 hv = h.get()[0];
        __nv_bfloat162 bv = b.get()[0];
        check(__low2float(hv) == 512 && __high2float(hv) == 1024 && __low2float(bv) == 256 &&
                  __high2float(bv) == 128,
              "atomics half2 bfloat162");
        check(cas.get()[0] == 1025, "atomic cas loop");
    }
    {
        Dev<u32> a(in), o(2 * n);
        divergent<<<2, 128>>>(a.p, o.p, n);
        bool ok = cuda_ok();
        auto r = o.get();
        std::vector<u32> st(n);
        for (int i = 0; i < n; ++i) {
            u32 v = in[i] % 1000, s = 0;
            while (v != 1 && v != 0) {
                v = v & 1 ? 3 * v + 1 : v / 2;
                if (++s > 500) break;
            }
            st[i] = s;
            ok &= r[i] == s;
        }
        for (int i = 0; i < n; ++i) {
            u32 s = 0;
            for (int k = 0; k < 32; ++k) s += st[(i & ~31) + k];
            ok &= r[n + i] == s;
        }
        check(ok, "divergent loops");
    }
    {
        Dev<u32> l(std::vector<u32>{0}), o(std::vector<u32>{0});
        spin<<<3, 64>>>(l.p, o.p);
        check(cuda_ok() && o.get()[0] == 192, "spin lock inside a warp");
    }
    {
        Dev<u32> o(100);
        bar_reduce<<<1, 100>>>(o.p);
        bool ok = cuda_ok();
        for (u32 v : o.get()) ok &= v == 34 * 4 + 2 + 1;
        check(ok, "barrier reductions");
        Dev<u32> q(320);
        named_barriers<<<1, 128>>>(q.p);
        ok = cuda_ok();
        auto r = q.get();
        for (u32 k = 0; k < 320; ++k) ok &= r[k] == (63 - k % 64) * 3 + k / 64;
        check(ok, "named barriers");
    }
    {
        Dev<u32> o(1);
        last_block<<<40, 32>>>(o.p);
        check(cuda_ok() && o.get()[0] == 40 * 39, "last block");
    }
    return finish();
}
