// What becomes of Matmul's sums on their way to memory, whichever kernel made them.
#pragma once

#include "kernels/cuda/activation.h"
#include "kernels/cuda/element.h"
#include "kernels/cuda/matmul_kernels.h"

namespace lathe::cuda {

/// kCount neighbouring elements, moved by one access.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount < 16 ? sizeof(T) * kCount : 16) Group {
    T values[kCount];
};

template <typename T, int kCount>
__device__ __forceinline__ void load_group(const T* from, bool whole, int count,
                                           float (&values)[kCount]) {
    if (whole) {
        const auto group = *reinterpret_cast<const Group<T, kCount>*>(from);
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            values[i] = to_float(group.values[i]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            values[i] = i < count ? to_float(from[i]) : 0.0F;
        }
    }
}

template <typename T, int kCount>
__device__ __forceinline__ void store_group(T* to, bool whole, int count,
                                            const float (&values)[kCount]) {
    if (whole) {
        Group<T, kCount> group;
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            group.values[i] = from_float<T>(values[i]);
        }
        *reinterpret_cast<Group<T, kCount>*>(to) = group;
    } else {
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            if (i < count) {
                to[i] = from_float<T>(values[i]);
            }
        }
    }
}

template <typename T, int kCount>
__device__ __forceinline__ void add_group(const void* from, int64_t offset, bool whole, int count,
                                          float (&values)[kCount]) {
    float added[kCount];
    load_group(static_cast<const T*>(from) + offset, whole, count, added);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
        values[i] += added[i];
    }
}

/// Finishes the sums of kCount neighbouring columns of one row, as far as they lie in d. T: compute
/// type; D: type of d.
template <typename T, typename D, int kCount>
__device__ __forceinline__ void finish(const Epilogue& e, int64_t row, int64_t column,
                                       float (&sums)[kCount]) {
    if (row >= e.rows || column >= e.columns) {
        return;
    }
    const int count = static_cast<int>(min(e.columns - column, int64_t{kCount}));
    const bool whole = e.aligned && count == kCount;
    const int64_t offset = row * e.columns + column;
    if (e.accumulate) {
        add_group<D>(e.d, offset, whole, count, sums);
    }
    if (e.bias != nullptr) {
        add_group<T>(e.bias, column, whole, count, sums);
    }
    if (e.activation != Activation::none) {
        if (e.pre_activation != nullptr) {
            store_group(static_cast<T*>(e.pre_activation) + offset, whole, count, sums);
        }
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            sums[i] = activate(e.activation, to_float(from_float<T>(sums[i])));
        }
    }
    if (e.residual != nullptr) {
        add_group<T>(e.residual, offset, whole, count, sums);
    }
    store_group(static_cast<D*>(e.d) + offset, whole, count, sums);
}

/// The epilogue of one part of a product, which need not be split.
__device__ __forceinline__ Epilogue of_part(const Epilogue& e, unsigned part) {
    Epilogue own = e;
    own.d = static_cast<float*>(e.d) + part * e.rows * e.columns;
    return own;
}

}  // namespace lathe::cuda
