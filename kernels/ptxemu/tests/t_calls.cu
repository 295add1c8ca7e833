// Calls, local arrays, parameters, constants, symbols, vector and narrow accesses.

// arch: 90

#include "common.h"

__noinline__ __device__ float poly(float x, int k) {
    float r = 1;
    for (int i = 0; i < k; ++i) r = r * x + (float)i;
    return r;
}
struct Pair {
    float a;
    int b;
    double c;
};
__noinline__ __device__ Pair mix(Pair p, const float* t) {
    p.a += poly(p.a, p.b & 3) + t[p.b & 7];
    p.c *= 2;
    p.b ^= 5;
    return p;
}
__global__ void calls(const float* x, Pair* out, const float* t) {
    int i = threadIdx.x;
    Pair p{x[i], i, x[i] * 0.5};
    if (i % 3) p = mix(p, t);
    if (i % 5 == 0) p = mix(p, t);
    out[i] = p;
}
__global__ void local_array(const u32* in, u32* out) {
    u32 a[16];
    for (int k = 0; k < 16; ++k) a[k] = in[threadIdx.x * 16 + k];
    for (int r = 0; r < 16; ++r) {
        u32 j = a[r] & 15, t = a[j];
        a[j] = a[15 - j] + r;
        a[15 - j] = t;
    }
    u32 s = 0;
    for (int k = 0; k < 16; ++k) s = s * 31 + a[k];
    out[threadIdx.x] = s;
}
__constant__ float table[8] = {1, 2, 4, 8, 16, 32, 64, 128};
__device__ u32 counter;
__device__ const char* name = "hello";
struct Big {
    u8 a;
    u16 b;
    u64 c;
    float d[3];
    double e;
};
__global__ void params(Big p, const Big* q, float* out, u8 x, i16 y) {
    counter = 5;
    out[0] = p.a + p.b + (float)p.c + p.d[2] + (float)p.e;
    out[1] = q->a + q->b + (float)q->c + q->d[threadIdx.x + 1] + (float)q->e;
    out[2] = x;
    out[3] = y;
    out[4] = table[p.a & 7];
    out[5] = name[1];
    out[6] = p.d[threadIdx.x + p.a % 2];
}
__global__ void wide(const float4* a, const uint2* b, float4* c, u8* d, const i8* e, i16* f) {
    int i = threadIdx.x;
    float4 v = __ldg(&a[i]);
    uint2 w = b[i];
    c[i] = make_float4(v.w + (float)w.x, v.z, v.y - (float)w.y, v.x);
    d[i] = (u8)(e[i] * 2);
    f[i] = (i16)(e[i] - 300);
}
int main() {
    {
        std::vector<float> x(64), t(8);
        for (auto& v : x) v = rndf();
        for (auto& v : t) v = rndf();
        Dev<float> dx(x), dt(t);
        Dev<Pair> o(64);
        calls<<<1, 64>>>(dx.p, o.p, dt.p);
        bool ok = cuda_ok();
        auto r = o.get();
        auto po = [](float x, int k) {
            float r = 1;
            for (int i = 0; i < k; ++i) r = fmaf(r, x, (float)i);
            return r;
        };
        auto mx = [&](Pair p) {
            p.a += po(p.a, p.b & 3) + t[p.b & 7];
            p.c *= 2;
            p.b ^= 5;
            return p;
        };
        for (int i = 0; i < 64; ++i) {
            Pair p{x[i], i, x[i] * 0.5};
            if (i % 3) p = mx(p);
            if (i % 5 == 0) p = mx(p);
            ok &= fabsf(p.a - r[i].a) < 1e-5f && p.b == r[i].b && p.c == r[i].c;
        }
        check(ok, "calls with structs");
    }
    {
        auto v = ints32(64 * 16);
        Dev<u32> a(v), o(64);
        local_array<<<1, 64>>>(a.p, o.p);
        bool ok = cuda_ok();
        auto r = o.get();
        for (int i = 0; i < 64; ++i) {
            u32 a[16];
            for (int k = 0; k < 16; ++k) a[k] = v[i * 16 + k];
            for (int q = 0; q < 16; ++q) {
                u32 j = a[q] & 15, t = a[j];
                a[j] = a[15 - j] + q;
                a[15 - j] = t;
            }
            u32 s = 0;
            for (int k = 0; k < 16; ++k) s = s * 31 + a[k];
            ok &= s == r[i];
        }
        check(ok, "local array");
    }
    {
        Big b{3, 500, 70000, {1, 2, 3}, 0.5};
        Dev<Big> q(std::vector<Big>{b});
        Dev<float> o(7);
        params<<<1, 1>>>(b, q.p, o.p, 200, -5);
        bool ok = cuda_ok();
        auto r = o.get();
        ok &= r[0] == 3 + 500 + 70000 + 3 + 0.5f && r[1] == 3 + 500 + 70000 + 2 + 0.5f &&
              r[2] == 200 && r[3] == -5 && r[4] == 8 && r[5] == 'e' && r[6] == 2;
        u32 c = 0;
        cudaMemcpyFromSymbol(&c, counter, 4);
        check(ok && c == 5, "parameters, constants, symbols");
    }
    {
        std::vector<float4> a(64);
        std::vector<uint2> b(64);
        std::vector<i8> e(64);
        for (int i = 0; i < 64; ++i) {
            a[i] = make_float4(rndf(), rndf(), rndf(), rndf());
            b[i] = make_uint2(i, i * 2);
            e[i] = (i8)(i * 5);
        }
        Dev<float4> da(a), dc(64);
        Dev<uint2> db(b);
        Dev<u8> dd(64);
        Dev<i8> de(e);
        Dev<i16> df(64);
        wide<<<1, 64>>>(da.p, db.p, dc.p, dd.p, de.p, df.p);
        bool ok = cuda_ok();
        auto c = dc.get();
        auto d = dd.get();
        auto f = df.get();
        for (int i = 0; i < 64; ++i)
            ok &= c[i].x == a[i].w + (float)b[i].x && c[i].y == a[i].z &&
                  c[i].z == a[i].y - (float)b[i].y && c[i].w == a[i].x && d[i] == (u8)(e[i] * 2) &&
                  f[i] == (i16)(e[i] - 300);
        check(ok, "vector and narrow memory");
    }
    return finish();
}
