// Kernels as a trainer has them: softmax by shuffles, layernorm, block reduction, AdamW, cross
// entropy, transpose, scan, grid sync.
#include <cooperative_groups.h>
#include <cuda_bf16.h>

#include "common.h"
namespace cg = cooperative_groups;
__global__ void softmax(const float* x, float* y, int n) {  // a warp a row
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, l = threadIdx.x & 31;
    float m = -INFINITY, s = 0;
    for (int i = l; i < n; i += 32) m = fmaxf(m, x[row * n + i]);
    for (int o = 16; o; o >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, o));
    for (int i = l; i < n; i += 32) s += __expf(x[row * n + i] - m);
    for (int o = 16; o; o >>= 1) s += __shfl_xor_sync(~0u, s, o);
    for (int i = l; i < n; i += 32) y[row * n + i] = __expf(x[row * n + i] - m) / s;
}
__device__ float block_sum(float v) {
    __shared__ float part[32];
    int l = threadIdx.x & 31, w = threadIdx.x / 32;
    for (int o = 16; o; o >>= 1) v += __shfl_down_sync(~0u, v, o);
    if (l == 0) part[w] = v;
    __syncthreads();
    v = threadIdx.x < blockDim.x / 32 ? part[l] : 0;
    if (w == 0) {
        for (int o = 16; o; o >>= 1) v += __shfl_down_sync(~0u, v, o);
        if (l == 0) part[0] = v;
    }
    __syncthreads();
    v = part[0];
    __syncthreads();
    return v;
}
__global__ void layernorm(const float* x, const float* g, const float* b, __nv_bfloat16* y,
                          float* stats, int n) {
    const float* r = x + blockIdx.x * n;
    float s = 0, q = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) s += r[i];
    float mean = block_sum(s) / n;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        float d = r[i] - mean;
        q += d * d;
    }
    float rs = rsqrtf(block_sum(q) / n + 1e-5f);
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        y[blockIdx.x * n + i] = __float2bfloat16((r[i] - mean) * rs * g[i] + b[i]);
    if (threadIdx.x == 0) {
        stats[blockIdx.x * 2] = mean;
        stats[blockIdx.x * 2 + 1] = rs;
    }
}
__global__ void adamw(float* p, __nv_bfloat16* lp, float* m, float* v, const __nv_bfloat16* g,
                      int n, float lr, float b1, float b2, float eps, float wd, float c1,
                      float c2) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        float gr = __bfloat162float(g[i]);
        m[i] = b1 * m[i] + (1 - b1) * gr;
        v[i] = b2 * v[i] + (1 - b2) * gr * gr;
        float u = (m[i] / c1) / (sqrtf(v[i] / c2) + eps) + wd * p[i];
        p[i] -= lr * u;
        lp[i] = __float2bfloat16_rn(p[i]);
    }
}
__global__ void transpose(const float* a, float* b, int n) {
    __shared__ float t[32][33];
    int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
    for (int k = 0; k < 32; k += 8)
        if (x < n && y + k < n) t[threadIdx.y + k][threadIdx.x] = a[(y + k) * n + x];
    __syncthreads();
    x = blockIdx.y * 32 + threadIdx.x;
    y = blockIdx.x * 32 + threadIdx.y;
    for (int k = 0; k < 32; k += 8)
        if (x < n && y + k < n) b[(y + k) * n + x] = t[threadIdx.x][threadIdx.y + k];
}
__global__ void scan(const int* a, int* o, int n) {  // Hillis-Steele, double buffered
    extern __shared__ int s[];
    int t = threadIdx.x, cur = 0;
    s[t] = a[t];
    __syncthreads();
    for (int d = 1; d < n; d *= 2) {
        s[(1 - cur) * n + t] = s[cur * n + t] + (t >= d ? s[cur * n + t - d] : 0);
        cur ^= 1;
        __syncthreads();
    }
    o[t] = s[cur * n + t];
}
__global__ void jacobi(float* a, float* b, int n, int iters) {
    auto g = cg::this_grid();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (int k = 0; k < iters; ++k) {
        float *s = k & 1 ? b : a, *d = k & 1 ? a : b;
        if (i < n) d[i] = 0.5f * (s[i ? i - 1 : n - 1] + s[i + 1 < n ? i + 1 : 0]);
        g.sync();
    }
}
__global__ void tiles(const int* a, int* o) {
    auto blk = cg::this_thread_block();
    auto t = cg::tiled_partition<8>(blk);
    int v = a[threadIdx.x];
    for (int k = t.size() / 2; k; k /= 2) v += t.shfl_down(v, k);
    v = t.shfl(v, 0);
    if (threadIdx.x % 3 == 0) {
        auto c = cg::coalesced_threads();
        v += c.size();
    }
    o[threadIdx.x] = v;
}
__global__ void xent(const float* logits, const int* target, float* loss, float* grad, int V) {
    const float* r = logits + blockIdx.x * V;
    __shared__ float red[8], bm, bs;
    float m = -INFINITY, s = 0;
    for (int i = threadIdx.x; i < V; i += blockDim.x) m = fmaxf(m, r[i]);
    for (int o = 16; o; o /= 2) m = fmaxf(m, __shfl_xor_sync(~0u, m, o));
    if (threadIdx.x % 32 == 0) red[threadIdx.x / 32] = m;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int k = 0; k < 8; ++k) m = fmaxf(m, red[k]);
        bm = m;
    }
    __syncthreads();
    m = bm;
    for (int i = threadIdx.x; i < V; i += blockDim.x) s += expf(r[i] - m);
    for (int o = 16; o; o /= 2) s += __shfl_xor_sync(~0u, s, o);
    if (threadIdx.x % 32 == 0) red[threadIdx.x / 32] = s;
    __syncthreads();
    if (threadIdx.x == 0) {
        float z = 0;
        for (int k = 0; k < 8; ++k) z += red[k];
        bs = z;
        loss[blockIdx.x] = logf(z) + m - r[target[blockIdx.x]];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < V; i += blockDim.x)
        grad[blockIdx.x * V + i] = expf(r[i] - m) / bs - (i == target[blockIdx.x]);
}
template <class T>
static double worst(const std::vector<T>& a, const std::vector<double>& b) {
    double w = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        double d = fabs((double)a[i] - b[i]);
        if (!(d <= w)) w = d;
    }
    return w;
}
static std::vector<float> randv(int n, float s = 1) {
    std::vector<float> v(n);
    for (auto& x : v) x = rndf() * s;
    return v;
}
int main() {
    {
        int R = 16, n = 77;
        auto x = randv(R * n, 5);
        Dev<float> dx(x), dy(R * n);
        softmax<<<R / 4, 128>>>(dx.p, dy.p, n);
        bool ok = cuda_ok();
        std::vector<double> r(R * n);
        for (int i = 0; i < R; ++i) {
            double m = -1e9, s = 0;
            for (int k = 0; k < n; ++k) m = fmax(m, x[i * n + k]);
            for (int k = 0; k < n; ++k) s += exp(x[i * n + k] - m);
            for (int k = 0; k < n; ++k) r[i * n + k] = exp(x[i * n + k] - m) / s;
        }
        check(ok && worst(dy.get(), r) < 1e-6, "softmax");
    }
    {
        int R = 5, n = 300;
        auto x = randv(R * n), g = randv(n), b = randv(n);
        Dev<float> dx(x), dg(g), db(b), ds(R * 2);
        Dev<__nv_bfloat16> dy(R * n);
        layernorm<<<R, 256>>>(dx.p, dg.p, db.p, dy.p, ds.p, n);
        bool ok = cuda_ok();
        auto y = dy.get();
        auto st = ds.get();
        double w = 0;
        for (int i = 0; i < R; ++i) {
            double m = 0, q = 0;
            for (int k = 0; k < n; ++k) m += x[i * n + k] / n;
            for (int k = 0; k < n; ++k) q += pow(x[i * n + k] - m, 2) / n;
            double rs = 1 / sqrt(q + 1e-5);
            w = worse(w, worse(fabs(st[2 * i] - m), fabs(st[2 * i + 1] - rs)) * 1000);
            for (int k = 0; k < n; ++k)
                w = worse(w, fabs(__bfloat162float(y[i * n + k]) -
                                  ((x[i * n + k] - m) * rs * g[k] + b[k])));
        }
        check(ok && w < 0.02, "layernorm");
    }
    {
        int n = 1000;
        auto p = randv(n), m = randv(n, 0.1f), v = randv(n, 0.01f), gf = randv(n);
        for (auto& z : v) z = fabsf(z);
        std::vector<__nv_bfloat16> g(n);
        for (int i = 0; i < n; ++i) g[i] = __float2bfloat16(gf[i]);
        Dev<float> dp(p), dm(m), dv(v);
        Dev<__nv_bfloat16> dg(g), dl(n);
        adamw<<<3, 128>>>(dp.p, dl.p, dm.p, dv.p, dg.p, n, 1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.19f,
                          0.0975f);
        bool ok = cuda_ok();
        auto P = dp.get();
        double w = 0;
        for (int i = 0; i < n; ++i) {
            double gr = __bfloat162float(g[i]), M = 0.9 * m[i] + 0.1 * gr,
                   V = 0.95 * v[i] + 0.05 * gr * gr;
            w = worse(w, fabs(P[i] -
                              (p[i] - 1e-2 * (M / 0.19 / (sqrt(V / 0.0975) + 1e-8) + 0.1 * p[i]))));
        }
        check(ok && w < 1e-6, "adamw");
    }
    {
        int n = 100;
        auto a = randv(n * n);
        Dev<float> da(a), db(n * n);
        transpose<<<dim3(4, 4), dim3(32, 8)>>>(da.p, db.p, n);
        bool ok = cuda_ok();
        auto b = db.get();
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < n; ++j) ok &= b[j * n + i] == a[i * n + j];
        check(ok, "transpose");
    }
    {
        int n = 512;
        std::vector<int> a(n);
        for (int i = 0; i < n; ++i) a[i] = (int)(rnd() % 100) - 50;
        Dev<int> da(a), o(n);
        scan<<<1, n, 2 * n * 4>>>(da.p, o.p, n);
        bool ok = cuda_ok();
        auto r = o.get();
        int s = 0;
        for (int i = 0; i < n; ++i) {
            s += a[i];
            ok &= r[i] == s;
        }
        check(ok, "scan");
    }
    {
        int n = 1000, it = 7;
        auto a = randv(n);
        Dev<float> da(a), db(n);
        void* args[] = {&da.p, &db.p, &n, &it};
        cudaError_t e = cudaLaunchCooperativeKernel((void*)jacobi, 8, 128, args, 0, 0);
        bool ok = e == cudaSuccess && cuda_ok();
        auto r = db.get();
        std::vector<float> b(n);
        for (int k = 0; k < it; ++k) {
            for (int i = 0; i < n; ++i)
                b[i] = 0.5f * (a[i ? i - 1 : n - 1] + a[i + 1 < n ? i + 1 : 0]);
            std::swap(a, b);
        }
        for (int i = 0; i < n; ++i) ok &= r[i] == a[i];
        check(ok, "cooperative grid sync");
    }
    {
        std::vector<int> a(64);
        for (int i = 0; i < 64; ++i) a[i] = i * i;
        Dev<int> da(a), o(64);
        tiles<<<1, 64>>>(da.p, o.p);
        bool ok = cuda_ok();
        auto r = o.get();
        for (int i = 0; i < 64; ++i) {
            int s = 0, c = 0;
            for (int k = 0; k < 8; ++k) s += a[(i & ~7) + k];
            for (int k = 0; k < 32; ++k) c += ((i & ~31) + k) % 3 == 0;
            ok &= r[i] == s + (i % 3 == 0 ? c : 0);
        }
        check(ok, "cooperative groups tiles");
    }
    {
        int R = 6, V = 500;
        auto x = randv(R * V, 4);
        std::vector<int> t(R);
        for (auto& k : t) k = (int)(rnd() % V);
        Dev<float> dx(x), dl(R), dg(R * V);
        Dev<int> dt(t);
        xent<<<R, 256>>>(dx.p, dt.p, dl.p, dg.p, V);
        bool ok = cuda_ok();
        auto L = dl.get();
        auto G = dg.get();
        double w = 0;
        for (int i = 0; i < R; ++i) {
            double m = -1e9, s = 0;
            for (int k = 0; k < V; ++k) m = fmax(m, x[i * V + k]);
            for (int k = 0; k < V; ++k) s += exp(x[i * V + k] - m);
            w = worse(w, fabs(L[i] - (log(s) + m - x[i * V + t[i]])));
            for (int k = 0; k < V; ++k)
                w = worse(w, fabs(G[i * V + k] - (exp(x[i * V + k] - m) / s - (k == t[i]))));
        }
        check(ok && w < 1e-5, "cross entropy");
    }
    return finish();
}
