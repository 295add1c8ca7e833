#include "model/block.h"

namespace lathe {

BlockTensors::BlockTensors(const UnitView& unit)
    : attention_norm(norm_tensors(unit, "attention_norm")),
      qkv(linear_tensors(unit, "attention.qkv")),
      output(linear_tensors(unit, "attention.output")),
      mlp_norm(norm_tensors(unit, "mlp_norm")),
      up(linear_tensors(unit, "mlp.up")),
      down(linear_tensors(unit, "mlp.down")) {}

Buffer Block::forward(Buffer x, Keep keep, BlockSaved& saved) {
    saved.x = std::move(x);
    qkv_forward(saved, keep, 0);
    attend(saved, keep);
    output_forward(saved, keep);
    hidden_forward(saved, keep);
    return down_forward(saved, keep);
}

Buffer Block::forward_cached(Buffer x, const KvCache& cache, int64_t layer) {
    BlockSaved saved;
    saved.x = std::move(x);
    qkv_forward(saved, Keep::nothing, cache.length());
    saved.attention = context.activation(saved.x.tensor().shape());
    context.workspace.run(CachedAttention{.heads = context.config.attention_heads(),
                                          .qkv = saved.qkv,
                                          .slopes = context.slopes,
                                          .key_cache = cache.keys(layer),
                                          .value_cache = cache.values(layer),
                                          .first_position = cache.length(),
                                          .y = saved.attention});
    context.observe(name, "attention", saved.attention);
    saved.qkv.reset();
    output_forward(saved, Keep::nothing);
    hidden_forward(saved, Keep::nothing);
    return down_forward(saved, Keep::nothing);
}

void Block::backward(BlockSaved saved, const BlockTensors& gradients, const Tensor& d) {
    if (!saved.qkv) {
        recompute(saved);
    }
    mlp_backward(saved, gradients, d);
    attention_backward(saved, gradients, d);
}

void Block::qkv_forward(BlockSaved& saved, Keep keep, int64_t first_position) {
    const Tensor& x = saved.x;
    saved.attention_norm = norm_forward(context, parameters.attention_norm, x);
    context.observe(name, "attention_norm", saved.attention_norm.y);
    saved.qkv = context.activation(
        {x.shape()[0], x.shape()[1], context.config.attention_heads().qkv_columns()});
    linear_forward(context, parameters.qkv, saved.attention_norm.y, saved.qkv);
    context.observe(name, "attention.qkv", saved.qkv);
    rotate(saved.qkv, first_position, false);
    if (keep == Keep::products) {
        saved.attention_norm.y.reset();
    } else if (keep != Keep::everything) {
        saved.attention_norm = {};
    }
}

void Block::attend(BlockSaved& saved, Keep keep) {
    const Shape shape = saved.x.tensor().shape();
    saved.attention = context.activation(shape);
    saved.log_sum_exp = context.statistic({shape[0], context.config.heads, shape[1]});
    context.workspace.run(Attention{.heads = context.config.attention_heads(),
                                    .qkv = saved.qkv,
                                    .slopes = context.slopes,
                                    .y = saved.attention,
                                    .log_sum_exp = saved.log_sum_exp});
    context.observe(name, "attention", saved.attention);
    if (keep == Keep::input || keep == Keep::nothing) {
        saved.qkv.reset();
        saved.log_sum_exp.reset();
    }
}

void Block::output_forward(BlockSaved& saved, Keep keep) {
    saved.attention_sum = context.activation(saved.x.tensor().shape());
    linear_forward(context, parameters.output, saved.attention, saved.attention_sum, saved.x);
    context.observe(name, "attention.output", saved.attention_sum);
    if (keep == Keep::input || keep == Keep::nothing) {
        saved.attention.reset();
    }
    if (keep == Keep::nothing) {
        saved.x.reset();
    }
}

void Block::hidden_forward(BlockSaved& saved, Keep keep) {
    const Tensor& x = saved.attention_sum;
    const int64_t width = context.config.feed_forward;
    const bool keeps_up = keep == Keep::everything || keep == Keep::products;
    saved.mlp_norm = norm_forward(context, parameters.mlp_norm, x);
    context.observe(name, "mlp_norm", saved.mlp_norm.y);
    saved.hidden = context.activation({x.shape()[0], x.shape()[1], width});
    if (context.config.mlp == MlpKind::swiglu) {
        saved.up = context.activation({x.shape()[0], x.shape()[1], 2 * width});
        linear_forward(context, parameters.up, saved.mlp_norm.y, saved.up);
        activate(saved.up, saved.hidden);
    } else {
        if (keeps_up) {
            saved.up = context.activation(saved.hidden.tensor().shape());
        }
        context.workspace.run(Matmul{.a = saved.mlp_norm.y,
                                     .b = parameters.up.weight,
                                     .d = saved.hidden,
                                     .transpose_b = true,
                                     .bias = parameters.up.bias,
                                     .activation = gelu(),
                                     .pre_activation = saved.up});
    }
    if (saved.up) {
        context.observe(name, "mlp.up", saved.up);
    }
    context.observe(name, "mlp.hidden", saved.hidden);
    if (keep == Keep::products) {
        saved.mlp_norm.y.reset();
    } else if (!keeps_up) {
        saved.mlp_norm = {};
        saved.up.reset();
    }
}

Buffer Block::down_forward(BlockSaved& saved, Keep keep) {
    Buffer y = context.activation(saved.attention_sum.tensor().shape());
    linear_forward(context, parameters.down, saved.hidden, y, saved.attention_sum);
    context.observe(name, "mlp.down", y);
    if (keep != Keep::everything) {
        saved.hidden.reset();
    }
    if (keep == Keep::input || keep == Keep::nothing) {
        saved.attention_sum.reset();
    }
    return y;
}

void Block::recompute(BlockSaved& saved) {
    // The probe has seen these in the forward pass.
    const Probe probe = std::exchange(context.probe, {});
    qkv_forward(saved, Keep::everything, 0);
    attend(saved, Keep::everything);
    output_forward(saved, Keep::everything);
    hidden_forward(saved, Keep::everything);
    context.probe = probe;
}

void Block::mlp_backward(BlockSaved& saved, const BlockTensors& gradients, const Tensor& d) {
    const Shape shape = d.shape();
    if (!saved.hidden) {
        saved.hidden = context.activation({shape[0], shape[1], context.config.feed_forward});
        activate(saved.up, saved.hidden);
    }
    linear_backward_parameters(context, gradients.down, d, saved.hidden);
    // The activation is not needed any more: its memory takes its gradient.
    Buffer d_hidden = std::move(saved.hidden);
    linear_backward_input(context, parameters.down, d, d_hidden);
    const Buffer d_up = activation_backward(saved, std::move(d_hidden));
    if (!saved.mlp_norm.y) {
        saved.mlp_norm = norm_forward(context, parameters.mlp_norm, saved.attention_sum);
    }
    linear_backward_parameters(context, gradients.up, d_up, saved.mlp_norm.y);
    const Buffer d_norm = std::move(saved.mlp_norm.y);
    linear_backward_input(context, parameters.up, d_up, d_norm);
    norm_backward(context, parameters.mlp_norm, gradients.mlp_norm, saved.mlp_norm,
                  saved.attention_sum, d_norm, d, d);
    saved.mlp_norm = {};
    saved.attention_sum.reset();
}

void Block::attention_backward(BlockSaved& saved, const BlockTensors& gradients, const Tensor& d) {
    linear_backward_parameters(context, gradients.output, d, saved.attention);
    Buffer d_attention = context.activation(d.shape());
    linear_backward_input(context, parameters.output, d, d_attention);
    const Buffer d_qkv = context.activation(saved.qkv.tensor().shape());
    context.workspace.run(AttentionBackward{.heads = context.config.attention_heads(),
                                            .d_y = d_attention,
                                            .qkv = saved.qkv,
                                            .slopes = context.slopes,
                                            .y = saved.attention,
                                            .log_sum_exp = saved.log_sum_exp,
                                            .d_qkv = d_qkv});
    d_attention.reset();
    saved.qkv.reset();
    saved.attention.reset();
    saved.log_sum_exp.reset();
    rotate(d_qkv, 0, true);
    if (!saved.attention_norm.y) {
        saved.attention_norm = norm_forward(context, parameters.attention_norm, saved.x);
    }
    linear_backward_parameters(context, gradients.qkv, d_qkv, saved.attention_norm.y);
    const Buffer d_norm = std::move(saved.attention_norm.y);
    linear_backward_input(context, parameters.qkv, d_qkv, d_norm);
    norm_backward(context, parameters.attention_norm, gradients.attention_norm,
                  saved.attention_norm, saved.x, d_norm, d, d);
}

Buffer Block::activation_backward(BlockSaved& saved, Buffer d_hidden) {
    Buffer up = std::move(saved.up);
    if (context.config.mlp == MlpKind::swiglu) {
        context.workspace.run(SwigluBackward{.d_y = d_hidden, .gate_up = up, .d_gate_up = up});
        return up;
    }
    context.workspace.run(
        GeluBackward{.activation = gelu(), .d_y = d_hidden, .x = up, .d_x = d_hidden});
    return d_hidden;
}

void Block::activate(const Tensor& up, const Tensor& hidden) {
    if (context.config.mlp == MlpKind::swiglu) {
        context.workspace.run(Swiglu{.gate_up = up, .y = hidden});
    } else {
        context.workspace.run(Gelu{.activation = gelu(), .x = up, .y = hidden});
    }
}

void Block::rotate(const Tensor& qkv, int64_t first_position, bool inverse) {
    if (context.config.positions == Positions::rotary) {
        context.workspace.run(Rotary{.heads = context.config.attention_heads(),
                                     .qkv = qkv,
                                     .table = context.rotary_table,
                                     .first_position = first_position,
                                     .inverse = inverse});
    }
}

Activation Block::gelu() const {
    return context.config.mlp == MlpKind::gelu_exact ? Activation::gelu_exact
                                                     : Activation::gelu_tanh;
}

}  // namespace lathe
