// mma.sync in every shape, ldmatrix, stmatrix, movmatrix. Fragments are filled by the formulas of
// the PTX manual, written out here per shape.

// arch: 90

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "common.h"

// A is 16 x K, B is K x 8 (stored [k][n]), elements of B bytes
template <class E>
__device__ u32 pack(const E* p, int stride) {
    u32 r = 0;
    for (int i = 0; i < (int)(4 / sizeof(E)); ++i) {
        u32 v = 0;
        memcpy(&v, p + i * stride, sizeof(E));
        r |= v << (8 * sizeof(E) * i);
    }
    return r;
}
template <class E>
struct Frag {  // e elements a register
    static constexpr int e = 4 / sizeof(E);
    static __device__ u32 a(const E* A, int K, int r) {
        int l = threadIdx.x;
        return pack(A + ((l >> 2) + 8 * (r & 1)) * K + (l & 3) * e + (r >> 1) * 4 * e, 1);
    }
    static __device__ u32 b(const E* B, int r) {
        int l = threadIdx.x;
        return pack(B + ((l & 3) * e + r * 4 * e) * 8 + (l >> 2), 8);
    }
};
template <class C>
__device__ C& acc(C* c, int r) {
    int l = threadIdx.x;
    return c[((l >> 2) + 8 * (r >> 1)) * 8 + (l & 3) * 2 + (r & 1)];
}

#define M_F32(name, E, K, text, NA)                                                      \
    __global__ void name(const E* A, const E* B, const float* C, float* D) {             \
        u32 a[4] = {}, b[2] = {};                                                        \
        float c[4], d[4];                                                                \
        for (int r = 0; r < NA; ++r) a[r] = Frag<E>::a(A, K, r);                         \
        for (int r = 0; r < NA / 2; ++r) b[r] = Frag<E>::b(B, r);                        \
        for (int r = 0; r < 4; ++r) c[r] = acc(C, r);                                    \
        asm volatile(text                                                                \
                     : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])                    \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), \
                       "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));                      \
        for (int r = 0; r < 4; ++r) acc(D, r) = d[r];                                    \
    }
#define FULL(op) "mma.sync.aligned." op " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
#define HALF_(op) "mma.sync.aligned." op " {%0,%1,%2,%3}, {%4,%5}, {%8}, {%10,%11,%12,%13};"
M_F32(bf16_16, __nv_bfloat16, 16, FULL("m16n8k16.row.col.f32.bf16.bf16.f32"), 4)
M_F32(bf16_8, __nv_bfloat16, 8, HALF_("m16n8k8.row.col.f32.bf16.bf16.f32"), 2)
M_F32(f16_16, __half, 16, FULL("m16n8k16.row.col.f32.f16.f16.f32"), 4)
M_F32(f16_8, __half, 8, HALF_("m16n8k8.row.col.f32.f16.f16.f32"), 2)
M_F32(tf32_8, float, 8, FULL("m16n8k8.row.col.f32.tf32.tf32.f32"), 4)
M_F32(tf32_4, float, 4, HALF_("m16n8k4.row.col.f32.tf32.tf32.f32"), 2)
M_F32(e4_32, __nv_fp8_e4m3, 32, FULL("m16n8k32.row.col.f32.e4m3.e4m3.f32"), 4)
M_F32(e5_32, __nv_fp8_e5m2, 32, FULL("m16n8k32.row.col.f32.e5m2.e5m2.f32"), 4)
__global__ void s8_32(const i8* A, const i8* B, const i32* C, i32* D) {
    u32 a[4], b[2];
    i32 c[4], d[4];
    for (int r = 0; r < 4; ++r) {
        a[r] = Frag<i8>::a(A, 32, r);
        c[r] = acc(C, r);
    }
    for (int r = 0; r < 2; ++r) b[r] = Frag<i8>::b(B, r);
    asm volatile(FULL("m16n8k32.row.col.s32.s8.s8.s32")
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c[0]),
                   "r"(c[1]), "r"(c[2]), "r"(c[3]));
    for (int r = 0; r < 4; ++r) acc(D, r) = d[r];
}
__global__ void f16acc(const __half* A, const __half* B, const __half* C, __half* D) {
    u32 a[4], b[2], c[2], d[2];
    for (int r = 0; r < 4; ++r) a[r] = Frag<__half>::a(A, 16, r);
    for (int r = 0; r < 2; ++r) {
        b[r] = Frag<__half>::b(B, r);
        c[r] = pack(&acc(C, 2 * r), 1);
    }
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, "
        "{%8,%9};"
        : "=r"(d[0]), "=r"(d[1])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c[0]), "r"(c[1]));
    for (int r = 0; r < 2; ++r) memcpy(&acc(D, 2 * r), &d[r], 4);
}
__global__ void f64_4(const double* A, const double* B, const double* C, double* D) {  // m8n8k4
    int l = threadIdx.x;
    double d0, d1;
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%4,%5};"
                 : "=d"(d0), "=d"(d1)
                 : "d"(A[(l >> 2) * 4 + (l & 3)]), "d"(B[(l & 3) * 8 + (l >> 2)]), "d"(acc(C, 0)),
                   "d"(acc(C, 1)));
    acc(D, 0) = d0;
    acc(D, 1) = d1;
}
template <class E>
double val(E e) {
    return (double)(float)e;
}
template <>
double val<double>(double e) {
    return e;
}
template <class E, class R, class K>
void mm(const char* name, K k, int M, int Kd, std::function<E(float)> mk, double tol) {
    std::vector<E> A(M * Kd), B(Kd * 8);
    std::vector<R> C(M * 8);
    for (auto& v : A) v = mk(rndf());
    for (auto& v : B) v = mk(rndf());
    for (auto& v : C) v = (R)(rndf() * 4);
    Dev<E> a(A), b(B);
    Dev<R> c(C), d(M * 8);
    k<<<1, 32>>>(a.p, b.p, c.p, d.p);
    bool ok = cuda_ok();
    auto D = d.get();
    for (int i = 0; i < M; ++i)
        for (int j = 0; j < 8; ++j) {
            double s = (double)(float)C[i * 8 + j];
            for (int q = 0; q < Kd; ++q) s += val(A[i * Kd + q]) * val(B[q * 8 + j]);
            if (fabs(s - (double)(float)D[i * 8 + j]) > tol * fmax(1, fabs(s))) {
                if (ok)
                    printf("%s (%d,%d) got %g want %g\n", name, i, j, (double)(float)D[i * 8 + j],
                           s);
                ok = false;
            }
        }
    check(ok, name);
}
__global__ void matrices(const u16* in, u32* out, u16* st, u16* st2) {
    __shared__ __align__(16) u16 s[4][8][8], t[4][8][8], t2[8][8];
    int l = threadIdx.x;
    for (int k = l; k < 256; k += 32) ((u16*)s)[k] = in[k];
    __syncwarp();
    u32 r[4], q[2], a = (u32)__cvta_generic_to_shared(&s[l / 8][l % 8][0]),
                    b = (u32)__cvta_generic_to_shared(&t[l / 8][l % 8][0]),
                    c = (u32)__cvta_generic_to_shared(&t2[l % 8][0]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(a)
                 : "memory");
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(q[0]), "=r"(q[1])
                 : "r"(a)
                 : "memory");
    for (int k = 0; k < 4; ++k) out[k * 32 + l] = r[k];
    out[128 + l] = q[0];
    out[160 + l] = q[1];
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(b),
                 "r"(r[3]), "r"(r[2]), "r"(r[1]), "r"(r[0])
                 : "memory");
    asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(c), "r"(r[1])
                 : "memory");
    u32 mv;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(mv) : "r"(r[2]));
    out[192 + l] = mv;
    __syncwarp();
    for (int k = l; k < 256; k += 32) st[k] = ((u16*)t)[k];
    for (int k = l; k < 64; k += 32) st2[k] = ((u16*)t2)[k];
}
int main() {
    auto bf = [](float f) { return __float2bfloat16(f); };
    auto hf = [](float f) { return __float2half(f); };
    mm<__nv_bfloat16, float>("m16n8k16 bf16", bf16_16, 16, 16, bf, 1e-6);
    mm<__nv_bfloat16, float>("m16n8k8 bf16", bf16_8, 16, 8, bf, 1e-6);
    mm<__half, float>("m16n8k16 f16", f16_16, 16, 16, hf, 1e-6);
    mm<__half, float>("m16n8k8 f16", f16_8, 16, 8, hf, 1e-6);
    auto tf = [](float f) {
        u32 u;
        memcpy(&u, &f, 4);
        u &= ~0x1fffu;
        memcpy(&f, &u, 4);
        return f;
    };
    mm<float, float>("m16n8k8 tf32", tf32_8, 16, 8, tf, 1e-6);
    mm<float, float>("m16n8k4 tf32", tf32_4, 16, 4, tf, 1e-6);
    mm<__nv_fp8_e4m3, float>(
        "m16n8k32 e4m3", e4_32, 16, 32, [](float f) { return __nv_fp8_e4m3(f * 8); }, 1e-6);
    mm<__nv_fp8_e5m2, float>(
        "m16n8k32 e5m2", e5_32, 16, 32, [](float f) { return __nv_fp8_e5m2(f * 8); }, 1e-6);
    mm<i8, i32>(
        "m16n8k32 s8", s8_32, 16, 32, [](float f) { return (i8)(f * 127); }, 0);
    mm<__half, __half>("m16n8k16 f16 accumulators", f16acc, 16, 16, hf, 2e-3);
    mm<double, double>(
        "m8n8k4 f64", f64_4, 8, 4, [](float f) { return (double)f; }, 1e-6);
    std::vector<u16> in(256);
    for (int i = 0; i < 256; ++i) in[i] = (u16)(i * 257);
    Dev<u16> di(in), ds(256), d2(64);
    Dev<u32> dout(224);
    matrices<<<1, 32>>>(di.p, dout.p, ds.p, d2.p);
    bool ok = cuda_ok(), ok2 = ok;
    auto r = dout.get();
    auto el = [&](int m, int row, int col) { return (u32)in[m * 64 + row * 8 + col]; };
    for (int l = 0; l < 32; ++l) {
        int row = l / 4, c = l % 4 * 2;
        for (int k = 0; k < 4; ++k)
            ok &= r[k * 32 + l] == (el(k, row, c) | el(k, row, c + 1) << 16);
        for (int k = 0; k < 2; ++k)
            ok &= r[128 + k * 32 + l] == (el(k, c, row) | el(k, c + 1, row) << 16);
        ok2 &= r[192 + l] == (el(2, c, row) | el(2, c + 1, row) << 16);
    }
    check(ok, "ldmatrix");
    auto st = ds.get();
    auto s2 = d2.get();
    for (int m = 0; m < 4; ++m)
        for (int k = 0; k < 64; ++k) ok2 &= st[m * 64 + k] == in[(3 - m) * 64 + k];
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; ++j) ok2 &= s2[j * 8 + i] == in[64 + i * 8 + j];
    check(ok2, "stmatrix movmatrix");
    return finish();
}
