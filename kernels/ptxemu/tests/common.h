// What every test shares: counting, device buffers, a generator of awkward values.
#pragma once
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;

static int num_passed = 0, num_failed = 0;
static void check(bool ok, const char* name) {
    if (ok)
        ++num_passed;
    else {
        ++num_failed;
        printf("FAIL %s\n", name);
    }
}
static int finish() {
    printf("RESULT %d %d\n", num_passed, num_failed);
    return num_failed != 0;
}
static bool cuda_ok() {
    cudaError_t e = cudaDeviceSynchronize();
    if (e) printf("cuda: %s\n", cudaGetErrorString(e));
    return e == cudaSuccess;
}
static u64 random_state = 88172645463325252ull;
static u64 rnd() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}
static float rndf() { return (float)((double)(rnd() >> 11) / (1ull << 53) * 2 - 1); }

template <class T>
struct Dev {
    T* p = nullptr;
    size_t n;
    explicit Dev(size_t n) : n(n) { cudaMalloc(&p, n * sizeof(T)); }
    explicit Dev(const std::vector<T>& v) : Dev(v.size()) {
        cudaMemcpy(p, v.data(), n * sizeof(T), cudaMemcpyHostToDevice);
    }
    ~Dev() { cudaFree(p); }
    std::vector<T> get() const {
        std::vector<T> v(n);
        cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost);
        return v;
    }
};

static std::vector<u32> ints32(int n) {
    static const u32 sp[] = {0,          1,          2,          31,         32,     33,
                             0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe, 0x8000, 0x7fff,
                             0xffff,     0x10000,    0xff,       0x80,       5,      0xdeadbeef};
    std::vector<u32> v(n);
    for (int i = 0; i < n; ++i) v[i] = i < 324 ? sp[i % 18] : (u32)rnd() >> (rnd() % 32);
    return v;
}
static std::vector<u64> ints64(int n) {
    static const u64 sp[] = {0,
                             1,
                             63,
                             64,
                             0x7fffffffffffffffull,
                             0x8000000000000000ull,
                             ~0ull,
                             0xffffffff,
                             0x100000000ull,
                             7,
                             ~6ull};
    std::vector<u64> v(n);
    for (int i = 0; i < n; ++i) v[i] = i < 121 ? sp[i % 11] : rnd() >> (rnd() % 64);
    return v;
}
static std::vector<float> floats(int n) {
    static const float sp[] = {
        0.0f,          -0.0f,         1.0f,           -1.0f,         0.5f,
        1.5f,          2.5f,          -2.5f,          INFINITY,      -INFINITY,
        NAN,           1e-40f,        -1e-40f,        3.4e38f,       65504.0f,
        65520.0f,      448.0f,        464.0f,         480.0f,        1e-8f,
        0.0009765625f, 2147483648.0f, -2147483648.0f, 4294967296.0f, 1.00390625f,
        1.01171875f};
    std::vector<float> v(n);
    for (int i = 0; i < n; ++i)
        v[i] = i < 676 ? sp[i % 26] : ldexpf(rndf(), (int)(rnd() % 40) - 20);
    return v;
}
// the larger; a NaN stays
static double worse(double a, double b) { return a != a || b <= a ? a : b; }
static bool same_f32(float a, float b) { return (a != a && b != b) || memcmp(&a, &b, 4) == 0; }
static bool same_f64(double a, double b) { return (a != a && b != b) || memcmp(&a, &b, 8) == 0; }

// one kernel an instruction: d = op(a, b, c)
#define OP3(name, T, TC, text, cd, ca, cb, cc)                               \
    __global__ void name(const T* a, const T* b, const TC* c, T* d, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x;                       \
        if (i >= n) return;                                                  \
        T r;                                                                 \
        asm volatile(text : cd(r) : ca(a[i]), cb(b[i]), cc(c[i]));           \
        d[i] = r;                                                            \
    }
