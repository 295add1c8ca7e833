// GELU and SiLU on the device, value and derivative: the one formula for Matmul's epilogue and for
// the operations of the same name, so that recomputation gets the same bits.
#pragma once

#include "kernels/operations.h"

namespace lathe::cuda {

/// 1 / (1 + exp(-x)). Where exp(-x) exceeds 2^126, the fast division gives 0.
__device__ __forceinline__ float logistic(float x) { return __fdividef(1.0F, 1.0F + expf(-x)); }

/// x Phi(x), Phi the normal distribution function.
struct GeluExact {
    static __device__ __forceinline__ float phi(float x) {
        return 0.5F * erfcf(x * -0.70710678118654752F);
    }
    static __device__ __forceinline__ float value(float x) { return x * phi(x); }
    static __device__ __forceinline__ float slope(float x) {
        const float density = 0.39894228040143268F * expf(-0.5F * (x * x));
        return fmaf(x, density, phi(x));
    }
};

/// 0.5 x (1 + tanh u) = x logistic(2u), u = sqrt(2 / pi) (x + 0.044715 x^3): no cancellation, and
/// no tanh.
struct GeluTanh {
    static constexpr float kTwoScale = 1.59576912160573071F;
    static constexpr float kCube = 0.044715F;

    static __device__ __forceinline__ float gate(float x) {
        return logistic(x * fmaf(x * x, kTwoScale * kCube, kTwoScale));
    }
    static __device__ __forceinline__ float value(float x) { return x * gate(x); }
    static __device__ __forceinline__ float slope(float x) {
        const float s = gate(x);
        const float bend = s * (1.0F - s);
        const float d_inner = fmaf(x * x, 3.0F * kTwoScale * kCube, kTwoScale);
        // Where s (1 - s) is 0, x d_inner may be infinite.
        return bend == 0.0F ? s : fmaf(x * d_inner, bend, s);
    }
};

/// x logistic(x)
struct Silu {
    static __device__ __forceinline__ float value(float x) { return x * logistic(x); }
    static __device__ __forceinline__ float slope(float x) {
        const float s = logistic(x);
        return s * fmaf(x, 1.0F - s, 1.0F);
    }
};

/// act(x); x itself without an activation.
__device__ __forceinline__ float activate(Activation activation, float x) {
    switch (activation) {
        case Activation::gelu_exact:
            return GeluExact::value(x);
        case Activation::gelu_tanh:
            return GeluTanh::value(x);
        case Activation::none:
            break;
    }
    return x;
}

}  // namespace lathe::cuda
