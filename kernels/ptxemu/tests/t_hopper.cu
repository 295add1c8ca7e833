// wgmma and tensor copies: a 64x128x64 tiled bf16 GEMM with two TMA stages; all swizzles;
// transposed B; TMA store with clipping.

// arch: 90a

#include <cuda.h>
#include <cuda_bf16.h>

#include "common.h"
using bf = __nv_bfloat16;
constexpr int BM = 64, BN = 128, BK = 64;
__device__ u32 sm32(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ void wait_parity(u64* b, u32 ph) {
    asm volatile(
        "{.reg .pred p; L1: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @p bra L2; bra "
        "L1; L2:}" ::"r"(sm32(b)),
        "r"(ph)
        : "memory");
}
__device__ void tma2(void* d, const CUtensorMap* m, int x, int y, u64* bar) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
        "[%1, {%2, %3}], [%4];" ::"r"(sm32(d)),
        "l"(m), "r"(x), "r"(y), "r"(sm32(bar))
        : "memory");
}
__device__ u64 desc(u32 a, u32 lbo, u32 sbo, u64 sw) {
    return (u64)((a & 0x3ffff) >> 4) | (u64)(lbo >> 4) << 16 | (u64)(sbo >> 4) << 32 | sw << 62;
}
#define R8(b) "%" #b
__device__ void wgmma_128(float (&d)[64], u64 a, u64 b, int add) {
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %66, 0; "
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%"
        "24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%"
        "46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, p, 1, "
        "1, 0, 0;}"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
          "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
          "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]),
          "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
          "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]),
          "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]),
          "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
          "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]),
          "+f"(d[63])
        : "l"(a), "l"(b), "r"(add));
}
__global__ __launch_bounds__(128) void gemm(const __grid_constant__ CUtensorMap ma,
                                            const __grid_constant__ CUtensorMap mb, float* C, int M,
                                            int N, int K) {
    extern __shared__ __align__(1024) u8 raw[];
    bf* base = (bf*)(((u64)raw + 1023) & ~1023ull);
    bf *sa = base, *sb = base + 2 * BM * BK;
    __shared__ u64 full[2];
    int t = threadIdx.x, m0 = blockIdx.y * BM, n0 = blockIdx.x * BN, steps = K / BK;
    if (t == 0)
        for (int k = 0; k < 2; ++k)
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(sm32(&full[k])));
    __syncthreads();
    auto load = [&](int s) {
        asm volatile(
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sm32(&full[s & 1])),
            "r"((BM + BN) * BK * 2)
            : "memory");
        tma2(sa + (s & 1) * BM * BK, &ma, s * BK, m0, &full[s & 1]);
        tma2(sb + (s & 1) * BN * BK, &mb, s * BK, n0, &full[s & 1]);
    };
    if (t == 0) load(0);
    float d[64];
    for (int s = 0; s < steps; ++s) {
        if (t == 0 && s + 1 < steps) load(s + 1);
        wait_parity(&full[s & 1], (s >> 1) & 1);
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        for (int k = 0; k < BK / 16; ++k)
            wgmma_128(d, desc(sm32(sa + (s & 1) * BM * BK) + k * 32, 16, 1024, 1),
                      desc(sm32(sb + (s & 1) * BN * BK) + k * 32, 16, 1024, 1), s || k);
        asm volatile("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;" ::
                         : "memory");
        __syncthreads();
    }
    int w = t / 32, l = t % 32;
    for (int i = 0; i < 64; ++i) {
        int m = m0 + w * 16 + l / 4 + 8 * (i / 2 % 2), n = n0 + i / 4 * 8 + l % 4 * 2 + i % 2;
        if (m < M && n < N) C[(size_t)m * N + n] = d[i];
    }
}
// one wgmma m64n8k16; B is K x 8 (N contiguous): no swizzle, transposed; A from registers
__global__ void small(const bf* A, const bf* B, float* C) {
    __shared__ __align__(128) bf sb[16 * 8];
    int t = threadIdx.x, w = t / 32, l = t % 32;
    sb[t] = B[t];  // row k: 8 contiguous n
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    u32 a[4];
    for (int r = 0; r < 4; ++r)
        memcpy(&a[r], A + (w * 16 + l / 4 + 8 * (r & 1)) * 16 + l % 4 * 2 + (r / 2) * 8, 4);
    float d[4] = {1, 1, 1, 1};
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, %8, p, -1, 1, 1;}"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(desc(sm32(sb), 128, 128, 0)));
    asm volatile("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;" ::: "memory");
    for (int i = 0; i < 4; ++i) C[(w * 16 + l / 4 + 8 * (i / 2)) * 8 + l % 4 * 2 + i % 2] = d[i];
}
__global__ void tile(const __grid_constant__ CUtensorMap in,
                     const __grid_constant__ CUtensorMap out, u16* dump, int x, int y, int n) {
    __shared__ __align__(1024) u16 s[32 * 64];
    __shared__ u64 bar;
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(sm32(&bar)));
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sm32(&bar)),
                     "r"(n * 2)
                     : "memory");
        tma2(s, &in, x, y, &bar);
    }
    __syncthreads();
    wait_parity(&bar, 0);
    for (int k = threadIdx.x; k < n; k += blockDim.x) dump[k] = s[k];
    if (threadIdx.x == 0)
        asm volatile(
            "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3]; "
            "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;" ::"l"(&out),
            "r"(x), "r"(y), "r"(sm32(s))
            : "memory");
}
using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                            const cuuint64_t*, const cuuint32_t*, const cuuint32_t*,
                            CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                            CUtensorMapFloatOOBfill);
static Encode enc;
static CUtensorMap map2(void* p, u64 w, u64 h, u32 bw, u32 bh, CUtensorMapSwizzle sw, bool* ok) {
    CUtensorMap m;
    cuuint64_t dim[2] = {w, h}, st[1] = {w * 2};
    cuuint32_t box[2] = {bw, bh}, es[2] = {1, 1};
    *ok &= enc(&m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, p, dim, st, box, es,
               CU_TENSOR_MAP_INTERLEAVE_NONE, sw, CU_TENSOR_MAP_L2_PROMOTION_NONE,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
    return m;
}
int main() {
    void* f = nullptr;
    cudaDriverEntryPointQueryResult q;
    check(!cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault,
                                            &q) &&
              f && q == cudaDriverEntryPointSuccess,
          "cuTensorMapEncodeTiled");
    enc = (Encode)f;
    bool ok = true;
    {
        int M = 100, N = 200, K = 192;
        std::vector<bf> A(M * K), B(N * K);
        for (auto& v : A) v = __float2bfloat16(rndf());
        for (auto& v : B) v = __float2bfloat16(rndf());
        Dev<bf> a(A), b(B);
        Dev<float> c(M * N);
        CUtensorMap ma = map2(a.p, K, M, BK, BM, CU_TENSOR_MAP_SWIZZLE_128B, &ok),
                    mb = map2(b.p, K, N, BK, BN, CU_TENSOR_MAP_SWIZZLE_128B, &ok);
        int bytes = 2 * (BM + BN) * BK * 2 + 1024;
        cudaFuncSetAttribute(gemm, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
        gemm<<<dim3(2, 2), 128, bytes>>>(ma, mb, c.p, M, N, K);
        ok &= !cudaGetLastError() && cuda_ok();
        auto C = c.get();
        double w = 0;
        for (int m = 0; m < M; ++m)
            for (int n = 0; n < N; ++n) {
                double s = 0;
                for (int k = 0; k < K; ++k)
                    s += (double)__bfloat162float(A[m * K + k]) * __bfloat162float(B[n * K + k]);
                w = worse(w, fabs(s - C[m * N + n]));
            }
        printf("wgmma gemm worst %g\n", w);
        check(ok && w < 1e-4, "wgmma gemm with TMA");
    }
    {
        std::vector<bf> A(64 * 16), B(16 * 8);
        for (auto& v : A) v = __float2bfloat16(rndf());
        for (auto& v : B) v = __float2bfloat16(rndf());
        Dev<bf> a(A), b(B);
        Dev<float> c(64 * 8);
        small<<<1, 128>>>(a.p, b.p, c.p);
        ok = cuda_ok();
        auto C = c.get();
        for (int m = 0; m < 64; ++m)
            for (int n = 0; n < 8; ++n) {
                double s = 1;
                for (int k = 0; k < 16; ++k)
                    s -= (double)__bfloat162float(A[m * 16 + k]) * __bfloat162float(B[k * 8 + n]);
                ok &= fabs(s - C[m * 8 + n]) < 1e-5;
            }
        check(ok, "wgmma A in registers, negated, B transposed without swizzle");
    }
    for (int sw = 0; sw < 4; ++sw) {
        int bw = sw == 0 ? 24 : 8 << sw, bh = 16, W = 40, H = 30, x = 20,
            y = 18;  // the box hangs over two edges
        std::vector<u16> in(W * H), zero(W * H, 0);
        for (int i = 0; i < W * H; ++i) in[i] = (u16)(i + 1);
        Dev<u16> di(in), dz(zero), dump(bw * bh);
        ok = true;
        CUtensorMap mi = map2(di.p, W, H, bw, bh, (CUtensorMapSwizzle)sw, &ok),
                    mo = map2(dz.p, W, H, bw, bh, (CUtensorMapSwizzle)sw, &ok);
        tile<<<1, 32>>>(mi, mo, dump.p, x, y, bw * bh);
        ok &= cuda_ok();
        auto s = dump.get();
        auto o = dz.get();
        for (int r = 0; r < bh; ++r)
            for (int c = 0; c < bw; ++c) {
                u32 a = (r * bw + c) * 2, mask = (1u << sw) - 1, p = a ^ ((a >> 7 & mask) << 4);
                u16 want = x + c < W && y + r < H ? in[(y + r) * W + x + c] : 0;
                ok &= s[p / 2] == want;
                if (want) ok &= o[(y + r) * W + x + c] == want;
            }
        for (int r = 0; r < H; ++r)
            for (int c = 0; c < W; ++c)
                if (r < y || c < x) ok &= o[r * W + c] == 0;
        check(ok, "tensor copy, clipped, each swizzle");
    }
    return finish();
}
