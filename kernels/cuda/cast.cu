// Conversions of element types.
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/flat.h"

namespace lathe::cuda {
namespace {

template <typename From, typename To>
__global__ void __launch_bounds__(kFlatThreads)
    cast_kernel(const From* x, To* y, int64_t n, bool aligned) {
    for_each_span(n, aligned, [&](auto is_aligned, int64_t begin, int64_t count) {
        constexpr bool kAligned = decltype(is_aligned)::value;
        store_span<To, kAligned>(y + begin, count, load_span<From, kAligned>(x + begin, count));
    });
}

__device__ __forceinline__ double to_double(float x) { return x; }
__device__ __forceinline__ double to_double(Bf16 x) { return to_float(x); }

template <typename T>
__device__ __forceinline__ T from_double(double x);
template <>
__device__ __forceinline__ float from_double<float>(double x) {
    return static_cast<float>(x);
}
template <>
__device__ __forceinline__ Bf16 from_double<Bf16>(double x) {
    return __double2bfloat16(x);  // rounds once
}

/// f64 is for statistics and tests; a thread an element.
template <typename From>
__global__ void __launch_bounds__(kFlatThreads) to_f64_kernel(const From* x, double* y, int64_t n) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kFlatThreads + threadIdx.x;
    if (i < n) {
        y[i] = to_double(x[i]);
    }
}

template <typename To>
__global__ void __launch_bounds__(kFlatThreads) from_f64_kernel(const double* x, To* y, int64_t n) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kFlatThreads + threadIdx.x;
    if (i < n) {
        y[i] = from_double<To>(x[i]);
    }
}

/// A thread an element.
LaunchShape element_shape(int64_t n, cudaStream_t stream) {
    return {.blocks = static_cast<unsigned>(divide_up(n, kFlatThreads)),
            .threads = kFlatThreads,
            .stream = stream};
}

}  // namespace

void CudaBackend::execute(const Cast& op, Stream stream) {
    const int64_t n = op.x.size();
    const cudaStream_t queue = this->stream(stream);
    const void* x = op.x.data();
    void* y = op.y.data();
    if (n == 0) {
        return;
    }
    if (op.x.dtype() == op.y.dtype()) {
        CUDA_CHECK(cudaMemcpyAsync(y, x, static_cast<size_t>(op.x.bytes()),
                                   cudaMemcpyDeviceToDevice, queue));
    } else if (op.y.dtype() == DType::f64) {
        for_compute_type(op.x.dtype(), [&](auto from) {
            using From = decltype(from);
            launch("Cast", to_f64_kernel<From>, element_shape(n, queue),
                   static_cast<const From*>(x), static_cast<double*>(y), n);
        });
    } else if (op.x.dtype() == DType::f64) {
        for_compute_type(op.y.dtype(), [&](auto to) {
            using To = decltype(to);
            launch("Cast", from_f64_kernel<To>, element_shape(n, queue),
                   static_cast<const double*>(x), static_cast<To*>(y), n);
        });
    } else if (op.x.dtype() == DType::f32) {
        launch_flat("Cast", cast_kernel<float, Bf16>, n, queue, static_cast<const float*>(x),
                    static_cast<Bf16*>(y), n, are_aligned(x, y));
    } else {
        launch_flat("Cast", cast_kernel<Bf16, float>, n, queue, static_cast<const Bf16*>(x),
                    static_cast<float*>(y), n, are_aligned(x, y));
    }
}

}  // namespace lathe::cuda
