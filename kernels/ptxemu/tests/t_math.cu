// Not formatted: clang-format never comes to rest on lists of macros.
// clang-format off
// CUDA math functions (libdevice, compiled into PTX) against the host's libm.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "common.h"
#define FUNCS(X)                                                                              \
    X(expf)                                                                                   \
    X(exp2f)                                                                                  \
    X(expm1f)                                                                                 \
    X(logf)                                                                                   \
    X(log1pf)                                                                                 \
    X(log2f) X(log10f) X(sinf) X(cosf) X(tanf) X(tanhf) X(sinhf) X(asinf) X(atanf) X(erff)    \
        X(erfcf) X(sqrtf) X(cbrtf) X(rintf) X(ceilf) X(lgammaf) X(tgammaf) X(rsqrtf_) X(sigm) \
            X(geluf)
__host__ __device__ inline float rsqrtf_(float x) { return 1.0f / sqrtf(x); }
__host__ __device__ inline float sigm(float x) { return 1.0f / (1.0f + expf(-x)); }
__host__ __device__ inline float geluf(float x) {
    return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}
#define K(f)                                                 \
    __global__ void k_##f(const float* a, float* o, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x;       \
        if (i < n) o[i] = f(a[i]);                           \
    }
FUNCS(K)
#define FUNCS2(X) X(powf) X(atan2f) X(fmodf) X(hypotf) X(fdimf) X(remainderf)
#define K2(f)                                                                \
    __global__ void k_##f(const float* a, const float* b, float* o, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x;                       \
        if (i < n) o[i] = f(a[i], b[i]);                                     \
    }
FUNCS2(K2)
__global__ void k_double(const float* a, double* o, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        double x = a[i];
        o[i] = exp(x) + log(fabs(x) + 1e-3) * sin(x) / (1 + x * x) + pow(fabs(x), 0.3) +
               sqrt(fabs(x)) + erf(x) + tanh(x);
    }
}
__global__ void k_half(const float* a, float* o, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        __half h = __float2half(a[i]);
        __nv_bfloat16 b = __float2bfloat16(a[i]);
        o[i] = __half2float(hexp(h) + hsqrt(__habs(h))) + __bfloat162float(b * b + hexp2(b)) +
               __half2float(__hmax(h, __float2half(0.5f)));
    }
}
static bool close(double a, double b, double tol) {
    return (a != a && b != b) || a == b || fabs(a - b) <= tol * fmax(fabs(b), 1e-30) ||
           fabs(a - b) < 1e-37;
}
int main() {
    const int n = 4096;
    std::vector<float> a(n), b(n);
    for (int i = 0; i < n; ++i) {
        a[i] = i < 200   ? (i - 100) * 0.37f
               : i < 300 ? ldexpf(1.3f, i - 250)
               : i < 400 ? -ldexpf(1.7f, i - 350)
                         : rndf() * 20;
        b[i] = rndf() * 5;
    }
    a[0] = 0;
    a[1] = 100000.0f;
    a[2] = -1e6f;
    a[3] = INFINITY;
    a[4] = NAN;
    a[5] = -INFINITY;
    a[6] = 1e30f;
    Dev<float> da(a), db(b), o(n);
#define RUN(f)                                                                    \
    {                                                                             \
        k_##f<<<n / 128, 128>>>(da.p, o.p, n);                                    \
        bool ok = cuda_ok();                                                       \
        auto r = o.get();                                                         \
        for (int i = 0; i < n; ++i)                                               \
            if (!close(r[i], f(a[i]), 3e-6) &&                                    \
                !(fabs(f(a[i])) < 1 && fabs(r[i] - f(a[i])) < 2e-7)) {            \
                ok = false;                                                       \
                printf("%s(%.9g) got %.9g want %.9g\n", #f, a[i], r[i], f(a[i])); \
                break;                                                            \
            }                                                                     \
        check(ok, #f);                                                            \
    }
    FUNCS(RUN)
#define RUN2(f)                                                                     \
    {                                                                               \
        k_##f<<<n / 128, 128>>>(da.p, db.p, o.p, n);                                \
        bool ok = cuda_ok();                                                         \
        auto r = o.get();                                                           \
        for (int i = 0; i < n; ++i)                                                 \
            if (!close(r[i], f(a[i], b[i]), 3e-6)) {                                \
                ok = false;                                                         \
                printf("%s(%.9g, %.9g) got %.9g want %.9g\n", #f, a[i], b[i], r[i], \
                       f(a[i], b[i]));                                              \
                break;                                                              \
            }                                                                       \
        check(ok, #f);                                                              \
    }
    FUNCS2(RUN2)
    Dev<double> dd(n);
    k_double<<<n / 128, 128>>>(da.p, dd.p, n);
    bool ok = cuda_ok();
    auto d = dd.get();
    for (int i = 10; i < n; ++i) {
        double x = a[i], w = exp(x) + log(fabs(x) + 1e-3) * sin(x) / (1 + x * x) +
                             pow(fabs(x), 0.3) + sqrt(fabs(x)) + erf(x) + tanh(x);
        if (!close(d[i], w, 1e-12)) {
            ok = false;
            printf("double %g got %.17g want %.17g\n", x, d[i], w);
            break;
        }
    }
    check(ok, "double functions");
    k_half<<<n / 128, 128>>>(da.p, o.p, n);
    ok = cuda_ok();
    auto r = o.get();
    for (int i = 400; i < n; ++i)
        if (fabsf(a[i]) < 4) {
            double x = __half2float(__float2half(a[i])),
                   y = __bfloat162float(__float2bfloat16(a[i])),
                   w = exp(x) + sqrt(fabs(x)) + y * y + exp2(y) + fmax(x, 0.5);
            if (!close(r[i], w, 0.02)) {
                ok = false;
                printf("half %g got %g want %g\n", x, r[i], w);
                break;
            }
        }
    check(ok, "half functions");
    return finish();
}
