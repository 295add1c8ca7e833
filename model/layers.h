// The two layers with parameters that everything else is made of: linear and norm.
#pragma once

#include "model/context.h"

namespace lathe {

/// A linear layer's parameters, or their gradients.
struct LinearTensors {
    Tensor weight;  ///< [out, in]
    Tensor bias;    ///< [out], absent without one
};

/// A norm's parameters, or their gradients.
struct NormTensors {
    Tensor weight;  ///< [C]
    Tensor bias;    ///< [C], absent for rmsnorm
};

LinearTensors linear_tensors(const UnitView& unit, std::string_view name);
NormTensors norm_tensors(const UnitView& unit, std::string_view name);

/// y[N, out] = x[N, in] weight^T + bias + residual, one rounding. `residual` may be absent.
void linear_forward(ModelContext& context, const LinearTensors& parameters, const Tensor& x,
                    const Tensor& y, const Tensor& residual = {});
/// d_x[N, in] = d_y[N, out] weight.
void linear_backward_input(ModelContext& context, const LinearTensors& parameters,
                           const Tensor& d_y, const Tensor& d_x);
/// gradients = those of the weight and the bias.
void linear_backward_parameters(ModelContext& context, const LinearTensors& gradients,
                                const Tensor& d_y, const Tensor& x);

/// What a norm keeps for its backward; y may be dropped and made again.
struct NormSaved {
    Buffer y;     ///< as x, compute
    Buffer mean;  ///< [N] accumulation, layernorm only
    Buffer rstd;  ///< [N] accumulation
};

NormSaved norm_forward(ModelContext& context, const NormTensors& parameters, const Tensor& x);
/// d_x = d_residual (optional, may be d_x itself) + gradient through the norm; gradients =.
void norm_backward(ModelContext& context, const NormTensors& parameters,
                   const NormTensors& gradients, const NormSaved& saved, const Tensor& x,
                   const Tensor& d_y, const Tensor& d_residual, const Tensor& d_x);

}  // namespace lathe
