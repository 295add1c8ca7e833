#include "model/layers.h"

namespace lathe {

LinearTensors linear_tensors(const UnitView& unit, std::string_view name) {
    return {unit.find(name, ".weight"), unit.find(name, ".bias")};
}

NormTensors norm_tensors(const UnitView& unit, std::string_view name) {
    return {unit.find(name, ".weight"), unit.find(name, ".bias")};
}

void linear_forward(ModelContext& context, const LinearTensors& parameters, const Tensor& x,
                    const Tensor& y, const Tensor& residual) {
    context.workspace.run(Matmul{.a = x,
                                 .b = parameters.weight,
                                 .d = y,
                                 .transpose_b = true,
                                 .bias = parameters.bias,
                                 .residual = residual});
}

void linear_backward_input(ModelContext& context, const LinearTensors& parameters,
                           const Tensor& d_y, const Tensor& d_x) {
    context.workspace.run(Matmul{.a = d_y, .b = parameters.weight, .d = d_x});
}

void linear_backward_parameters(ModelContext& context, const LinearTensors& gradients,
                                const Tensor& d_y, const Tensor& x) {
    context.workspace.run(Matmul{.a = d_y, .b = x, .d = gradients.weight, .transpose_a = true});
    if (gradients.bias) {
        context.workspace.run(BiasBackward{.d_y = d_y, .d_bias = gradients.bias});
    }
}

NormSaved norm_forward(ModelContext& context, const NormTensors& parameters, const Tensor& x) {
    NormSaved saved;
    saved.y = context.activation(x.shape());
    saved.rstd = context.statistic({x.rows()});
    if (context.config.norm == NormKind::layernorm) {
        saved.mean = context.statistic({x.rows()});
    }
    context.workspace.run(Norm{.kind = context.config.norm,
                               .epsilon = static_cast<float>(context.config.norm_epsilon),
                               .x = x,
                               .weight = parameters.weight,
                               .bias = parameters.bias,
                               .y = saved.y,
                               .mean = saved.mean,
                               .rstd = saved.rstd});
    return saved;
}

void norm_backward(ModelContext& context, const NormTensors& parameters,
                   const NormTensors& gradients, const NormSaved& saved, const Tensor& x,
                   const Tensor& d_y, const Tensor& d_residual, const Tensor& d_x) {
    context.workspace.run(NormBackward{.kind = context.config.norm,
                                       .d_y = d_y,
                                       .x = x,
                                       .weight = parameters.weight,
                                       .mean = saved.mean,
                                       .rstd = saved.rstd,
                                       .d_residual = d_residual,
                                       .d_x = d_x,
                                       .d_weight = gradients.weight,
                                       .d_bias = gradients.bias});
}

}  // namespace lathe
