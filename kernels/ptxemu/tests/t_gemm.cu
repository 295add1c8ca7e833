// Tiled bf16 GEMM: cp.async with three stages, ldmatrix (swizzled), mma.sync; C = A (M x K) * B^T
// (N x K).
#include <cuda_bf16.h>

#include "common.h"
constexpr int BM = 64, BN = 64, BK = 32, STAGES = 3;
using bf = __nv_bfloat16;
__device__ u32 smem(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ void copy16(void* d, const void* s, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem(d)), "l"(s),
                 "r"(valid ? 16 : 0)
                 : "memory");
}
__global__ __launch_bounds__(128) void gemm(const bf* A, const bf* B, float* C, int M, int N,
                                            int K) {
    extern __shared__ __align__(128) bf sm[];
    bf* sa = sm;
    bf* sb = sm + STAGES * BM * BK;
    int t = threadIdx.x, w = t / 32, l = t % 32, m0 = blockIdx.y * BM, n0 = blockIdx.x * BN;
    auto at = [](bf* base, int row, int chunk) {
        return base + row * BK + ((chunk ^ ((row >> 1) & 3)) * 8);
    };
    auto load = [&](int st, int k0) {
        for (int c = t; c < BM * BK / 8; c += 128) {
            int row = c / (BK / 8), ch = c % (BK / 8);
            bool va = m0 + row < M && k0 + ch * 8 < K, vb = n0 + row < N && k0 + ch * 8 < K;
            copy16(at(sa + st * BM * BK, row, ch),
                   va ? A + (size_t)(m0 + row) * K + k0 + ch * 8 : A, va);
            copy16(at(sb + st * BN * BK, row, ch),
                   vb ? B + (size_t)(n0 + row) * K + k0 + ch * 8 : B, vb);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    float acc[2][4][4] = {};
    int wm = (w / 2) * 32, wn = (w % 2) * 32, steps = (K + BK - 1) / BK;
    for (int s = 0; s < STAGES - 1; ++s) {
        if (s < steps)
            load(s, s * BK);
        else
            asm volatile("cp.async.commit_group;");
    }
    for (int s = 0; s < steps; ++s) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
        __syncthreads();
        int nx = s + STAGES - 1;
        if (nx < steps)
            load(nx % STAGES, nx * BK);
        else
            asm volatile("cp.async.commit_group;");
        bf *ta = sa + (s % STAGES) * BM * BK, *tb = sb + (s % STAGES) * BN * BK;
        for (int kk = 0; kk < BK / 16; ++kk) {
            u32 a[2][4], b[4][2];
            for (int i = 0; i < 2; ++i)
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                             : "=r"(a[i][0]), "=r"(a[i][1]), "=r"(a[i][2]), "=r"(a[i][3])
                             : "r"(smem(at(ta, wm + i * 16 + l % 16, kk * 2 + l / 16)))
                             : "memory");
            for (int j = 0; j < 4; j += 2)
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                             : "=r"(b[j][0]), "=r"(b[j][1]), "=r"(b[j + 1][0]), "=r"(b[j + 1][1])
                             : "r"(smem(at(tb, wn + j * 8 + (l & 7) + (l & 16) / 2,
                                           kk * 2 + ((l >> 3) & 1))))
                             : "memory");
            for (int i = 0; i < 2; ++i)
                for (int j = 0; j < 4; ++j)
                    asm volatile(
                        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                        "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                        : "+f"(acc[i][j][0]), "+f"(acc[i][j][1]), "+f"(acc[i][j][2]),
                          "+f"(acc[i][j][3])
                        : "r"(a[i][0]), "r"(a[i][1]), "r"(a[i][2]), "r"(a[i][3]), "r"(b[j][0]),
                          "r"(b[j][1]));
        }
    }
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j)
            for (int r = 0; r < 4; ++r) {
                int m = m0 + wm + i * 16 + l / 4 + 8 * (r / 2),
                    n = n0 + wn + j * 8 + l % 4 * 2 + r % 2;
                if (m < M && n < N) C[(size_t)m * N + n] = acc[i][j][r];
            }
}
static void one(int M, int N, int K) {
    std::vector<bf> A((size_t)M * K), B((size_t)N * K);
    for (auto& v : A) v = __float2bfloat16(rndf());
    for (auto& v : B) v = __float2bfloat16(rndf());
    Dev<bf> a(A), b(B);
    Dev<float> c((size_t)M * N);
    int bytes = STAGES * (BM + BN) * BK * 2;
    cudaFuncSetAttribute(gemm, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    cudaEvent_t e0, e1;
    cudaEventCreate(&e0);
    cudaEventCreate(&e1);
    cudaEventRecord(e0);
    gemm<<<dim3((N + BN - 1) / BN, (M + BM - 1) / BM), 128, bytes>>>(a.p, b.p, c.p, M, N, K);
    cudaEventRecord(e1);
    bool ok = cudaGetLastError() == cudaSuccess && cuda_ok();
    float ms;
    cudaEventElapsedTime(&ms, e0, e1);
    auto C = c.get();
    std::vector<float> fa(A.size()), fb(B.size());
    for (size_t i = 0; i < A.size(); ++i) fa[i] = __bfloat162float(A[i]);
    for (size_t i = 0; i < B.size(); ++i) fb[i] = __bfloat162float(B[i]);
    double worst = 0;
    for (int m = 0; m < M; ++m)
        for (int n = 0; n < N; ++n) {
            double s = 0;
            for (int k = 0; k < K; ++k) s += (double)fa[m * K + k] * fb[n * K + k];
            worst = worse(worst, fabs(s - C[m * N + n]));
        }
    printf("gemm %dx%dx%d: worst %g, %.1f ms, %.2f Gflop/s\n", M, N, K, worst, ms,
           2e-6 * M * N * K / ms);
    char nm[64];
    snprintf(nm, 64, "gemm %dx%dx%d", M, N, K);
    check(ok && worst < 1e-4, nm);
}
int main() {
    one(64, 64, 32);
    one(128, 128, 256);
    one(100, 72, 104);
    one(256, 256, 256);
    return finish();
}
