// Flash attention forward, bf16, causal: Q in registers, K and V tiles by cp.async (two stages),
// online softmax, mma for both products.
#include <cuda_bf16.h>

#include "common.h"
using bf = __nv_bfloat16;
constexpr int D = 64, BQ = 64, BKV = 32, LD = D + 8;
__device__ u32 sm32(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ void mma(float* c, const u32* a, u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ u32 pack2(float a, float b) {
    __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
    u32 u;
    memcpy(&u, &v, 4);
    return u;
}
__global__ __launch_bounds__(128) void flash(const bf* Q, const bf* K, const bf* V, bf* O,
                                             float* lse, int T, float scale) {
    __shared__ __align__(16) bf sq[BQ * LD], sk[2][BKV * LD], sv[2][BKV * LD];
    int t = threadIdx.x, w = t / 32, l = t % 32, q0 = blockIdx.x * BQ;
    size_t head = (size_t)blockIdx.y * T * D;
    auto load = [&](bf* dst, const bf* src, int rows, int r0) {
        for (int c = t; c < rows * D / 8; c += 128) {
            int r = c / (D / 8), ch = c % (D / 8);
            bool ok = r0 + r < T;
            asm volatile(
                "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sm32(dst + r * LD + ch * 8)),
                "l"(src + head + (size_t)(ok ? r0 + r : 0) * D + ch * 8), "r"(ok ? 16 : 0)
                : "memory");
        }
    };
    load(sq, Q, BQ, q0);
    load(sk[0], K, BKV, 0);
    load(sv[0], V, BKV, 0);
    asm volatile("cp.async.commit_group;" ::: "memory");
    int tiles = min((q0 + BQ + BKV - 1) / BKV, (T + BKV - 1) / BKV);
    u32 qf[D / 16][4];
    float o[D / 8][4] = {}, m[2] = {-INFINITY, -INFINITY}, s[2] = {0, 0};
    for (int j = 0; j < tiles; ++j) {
        if (j + 1 < tiles) {
            load(sk[(j + 1) & 1], K, BKV, (j + 1) * BKV);
            load(sv[(j + 1) & 1], V, BKV, (j + 1) * BKV);
        }
        asm volatile("cp.async.commit_group; cp.async.wait_group 1;" ::: "memory");
        __syncthreads();
        if (j == 0)
            for (int k = 0; k < D / 16; ++k)
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                             : "=r"(qf[k][0]), "=r"(qf[k][1]), "=r"(qf[k][2]), "=r"(qf[k][3])
                             : "r"(sm32(sq + (w * 16 + l % 16) * LD + k * 16 + l / 16 * 8))
                             : "memory");
        float p[BKV / 8][4] = {};
        for (int k = 0; k < D / 16; ++k)
            for (int n = 0; n < BKV / 8; ++n) {
                u32 b0, b1;
                asm volatile(
                    "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                    : "=r"(b0), "=r"(b1)
                    : "r"(sm32(sk[j & 1] + (n * 8 + l % 8) * LD + k * 16 + (l / 8 & 1) * 8))
                    : "memory");
                mma(p[n], qf[k], b0, b1);
            }
        float mx[2] = {m[0], m[1]};
        for (int n = 0; n < BKV / 8; ++n)
            for (int r = 0; r < 4; ++r) {
                int row = q0 + w * 16 + l / 4 + 8 * (r / 2),
                    col = j * BKV + n * 8 + l % 4 * 2 + r % 2;
                p[n][r] = col <= row && col < T ? p[n][r] * scale : -INFINITY;
                mx[r / 2] = fmaxf(mx[r / 2], p[n][r]);
            }
        for (int h = 0; h < 2; ++h) {
            mx[h] = fmaxf(mx[h], __shfl_xor_sync(~0u, mx[h], 1));
            mx[h] = fmaxf(mx[h], __shfl_xor_sync(~0u, mx[h], 2));
            float c = __expf(m[h] - mx[h]);
            s[h] *= c;
            m[h] = mx[h];
            for (int d = 0; d < D / 8; ++d) {
                o[d][2 * h] *= c;
                o[d][2 * h + 1] *= c;
            }
        }
        for (int n = 0; n < BKV / 8; ++n)
            for (int r = 0; r < 4; ++r) {
                p[n][r] = __expf(p[n][r] - m[r / 2]);
                s[r / 2] += p[n][r];
            }
        for (int k = 0; k < BKV / 16; ++k) {
            u32 a[4] = {pack2(p[2 * k][0], p[2 * k][1]), pack2(p[2 * k][2], p[2 * k][3]),
                        pack2(p[2 * k + 1][0], p[2 * k + 1][1]),
                        pack2(p[2 * k + 1][2], p[2 * k + 1][3])};
            for (int d = 0; d < D / 8; ++d) {
                u32 b0, b1;
                asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                             : "=r"(b0), "=r"(b1)
                             : "r"(sm32(sv[j & 1] + (k * 16 + l % 16) * LD + d * 8))
                             : "memory");
                mma(o[d], a, b0, b1);
            }
        }
        __syncthreads();
    }
    for (int h = 0; h < 2; ++h) {
        s[h] += __shfl_xor_sync(~0u, s[h], 1);
        s[h] += __shfl_xor_sync(~0u, s[h], 2);
        int row = q0 + w * 16 + l / 4 + 8 * h;
        if (row >= T) continue;
        for (int d = 0; d < D / 8; ++d)
            *(u32*)(O + head + (size_t)row * D + d * 8 + l % 4 * 2) =
                pack2(o[d][2 * h] / s[h], o[d][2 * h + 1] / s[h]);
        if (l % 4 == 0) lse[blockIdx.y * T + row] = m[h] + logf(s[h]);
    }
}
static void one(int H, int T) {
    size_t n = (size_t)H * T * D;
    std::vector<bf> q(n), k(n), v(n);
    for (size_t i = 0; i < n; ++i) {
        q[i] = __float2bfloat16(rndf() * 2);
        k[i] = __float2bfloat16(rndf() * 2);
        v[i] = __float2bfloat16(rndf());
    }
    Dev<bf> dq(q), dk(k), dv(v), dout(n);
    Dev<float> dl(H * T);
    float scale = 1 / sqrtf(D);
    flash<<<dim3((T + BQ - 1) / BQ, H), 128>>>(dq.p, dk.p, dv.p, dout.p, dl.p, T, scale);
    bool ok = cudaGetLastError() == cudaSuccess && cuda_ok();
    auto o = dout.get();
    auto L = dl.get();
    double w = 0, wl = 0;
    for (int h = 0; h < H; ++h)
        for (int i = 0; i < T; ++i) {
            std::vector<double> p(i + 1);
            double m = -1e30, s = 0;
            for (int j = 0; j <= i; ++j) {
                double z = 0;
                for (int d = 0; d < D; ++d)
                    z += (double)__bfloat162float(q[((size_t)h * T + i) * D + d]) *
                         __bfloat162float(k[((size_t)h * T + j) * D + d]);
                p[j] = z * scale;
                m = fmax(m, p[j]);
            }
            for (auto& x : p) {
                x = exp(x - m);
                s += x;
            }
            wl = worse(wl, fabs(L[h * T + i] - (m + log(s))));
            for (int d = 0; d < D; ++d) {
                double z = 0;
                for (int j = 0; j <= i; ++j)
                    z += p[j] / s * __bfloat162float(v[((size_t)h * T + j) * D + d]);
                w = worse(w, fabs(z - __bfloat162float(o[((size_t)h * T + i) * D + d])));
            }
        }
    printf("flash H=%d T=%d: worst %g, lse %g\n", H, T, w, wl);
    char nm[40];
    snprintf(nm, 40, "flash attention T=%d", T);
    check(ok && w < 0.01 && wl < 1e-4, nm);
}
int main() {
    one(2, 128);
    one(1, 100);
    one(1, 33);
    return finish();
}
