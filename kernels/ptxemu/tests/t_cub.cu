// CUB: device-wide sort, scan and reduction, block primitives.
#include <algorithm>
#include <cub/cub.cuh>
#include <numeric>

#include "common.h"
__global__ void block_ops(const int* a, int* o) {
    using Scan = cub::BlockScan<int, 128>;
    using Red = cub::BlockReduce<int, 128>;
    using Sort = cub::BlockRadixSort<int, 128, 2>;
    __shared__ union {
        Scan::TempStorage s;
        Red::TempStorage r;
        Sort::TempStorage t;
    } m;
    int t = threadIdx.x, v = a[t], x, q;
    Scan(m.s).ExclusiveSum(v, x);
    __syncthreads();
    q = Red(m.r).Reduce(v, [](int p, int w) { return p > w ? p : w; });
    __syncthreads();
    int k[2] = {a[2 * t], a[2 * t + 1]};
    Sort(m.t).Sort(k);
    o[t] = x;
    o[128 + 2 * t] = k[0];
    o[129 + 2 * t] = k[1];
    if (t == 0) o[384] = q;
}
int main() {
    int n = 20000;
    std::vector<int> a(n);
    for (auto& v : a) v = (int)rnd() % 100000;
    Dev<int> d(a), o(n);
    void* tmp = nullptr;
    size_t bytes = 0;
    cub::DeviceReduce::Sum(tmp, bytes, d.p, o.p, n);
    cudaMalloc(&tmp, bytes);
    bool ok = !cub::DeviceReduce::Sum(tmp, bytes, d.p, o.p, n) && cuda_ok();
    check(ok && o.get()[0] == std::accumulate(a.begin(), a.end(), 0), "device reduce");
    cudaFree(tmp);
    tmp = nullptr;
    cub::DeviceScan::InclusiveSum(tmp, bytes, d.p, o.p, n);
    cudaMalloc(&tmp, bytes);
    ok = !cub::DeviceScan::InclusiveSum(tmp, bytes, d.p, o.p, n) && cuda_ok();
    std::vector<int> want(n);
    std::partial_sum(a.begin(), a.end(), want.begin());
    check(ok && o.get() == want, "device scan (decoupled look-back)");
    cudaFree(tmp);
    tmp = nullptr;
    cub::DeviceRadixSort::SortKeys(tmp, bytes, d.p, o.p, n);
    cudaMalloc(&tmp, bytes);
    ok = !cub::DeviceRadixSort::SortKeys(tmp, bytes, d.p, o.p, n) && cuda_ok();
    want = a;
    std::sort(want.begin(), want.end());
    check(ok && o.get() == want, "device radix sort");
    block_ops<<<1, 128>>>(d.p, o.p);
    ok = cuda_ok();
    auto r = o.get();
    int s = 0;
    for (int i = 0; i < 128; ++i) {
        ok &= r[i] == s;
        s += a[i];
    }
    want.assign(a.begin(), a.begin() + 256);
    std::sort(want.begin(), want.end());
    for (int i = 0; i < 256; ++i) ok &= r[128 + i] == want[i];
    check(ok && r[384] == *std::max_element(a.begin(), a.begin() + 128),
          "block scan, reduce, sort");
    return finish();
}
