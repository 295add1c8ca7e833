// The reference's backward operations against finite differences of its forward ones, in double.
#include <gtest/gtest.h>

#include "kernels/reference/compute.h"
#include "tests/support/gradient_check.h"
#include "tests/support/random_values.h"

namespace lathe::test {
namespace {

using Values = std::vector<double>;

Tensor tensor(Values& values, Shape shape) { return Tensor(values.data(), DType::f64, shape); }

double dot(const Values& a, const Values& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        sum += a[i] * b[i];
    }
    return sum;
}

constexpr double kScale = 100;

TEST(Gradient, Matmul) {
    Random random(1);
    Values a = random.normal(3 * 4);
    Values b = random.normal(5 * 4);
    Values bias = random.normal(5);
    Values d_y = random.normal(3 * 5);
    const auto loss = [&] {
        Values y(3 * 5);
        reference::compute(Matmul{.a = tensor(a, {3, 4}),
                                  .b = tensor(b, {5, 4}),
                                  .d = tensor(y, {3, 5}),
                                  .transpose_b = true,
                                  .bias = tensor(bias, {5})});
        return dot(y, d_y);
    };
    Values d_a(a.size());
    Values d_b(b.size());
    Values d_bias(bias.size());
    reference::compute(
        Matmul{.a = tensor(d_y, {3, 5}), .b = tensor(b, {5, 4}), .d = tensor(d_a, {3, 4})});
    reference::compute(Matmul{.a = tensor(d_y, {3, 5}),
                              .b = tensor(a, {3, 4}),
                              .d = tensor(d_b, {5, 4}),
                              .transpose_a = true});
    reference::compute(BiasBackward{.d_y = tensor(d_y, {3, 5}), .d_bias = tensor(d_bias, {5})});
    expect_gradient("a", a, loss, d_a, kScale);
    expect_gradient("b", b, loss, d_b, kScale);
    expect_gradient("bias", bias, loss, d_bias, kScale);
}

TEST(Gradient, Embedding) {
    Random random(2);
    std::vector<int32_t> token_values = {1, 0, 1, 3, 1, 3};
    const Tensor tokens(token_values.data(), DType::i32, {2, 3});
    Values token_table = random.normal(5 * 4);
    Values position_table = random.normal(4 * 4);
    Values d_y = random.normal(6 * 4);
    const auto loss = [&] {
        Values y(6 * 4);
        reference::compute(Embedding{.tokens = tokens,
                                     .token_table = tensor(token_table, {5, 4}),
                                     .position_table = tensor(position_table, {4, 4}),
                                     .y = tensor(y, {2, 3, 4})});
        return dot(y, d_y);
    };
    Values d_tokens(token_table.size());
    Values d_positions(position_table.size(), 7.0);
    reference::compute(EmbeddingBackward{.tokens = tokens,
                                         .d_y = tensor(d_y, {2, 3, 4}),
                                         .d_token_table = tensor(d_tokens, {5, 4}),
                                         .d_position_table = tensor(d_positions, {4, 4})});
    expect_gradient("token_table", token_table, loss, d_tokens, kScale);
    expect_gradient("position_table", position_table, loss, d_positions, kScale);
}

class NormGradient : public testing::TestWithParam<NormKind> {};
INSTANTIATE_TEST_SUITE_P(Kinds, NormGradient,
                         testing::Values(NormKind::layernorm, NormKind::rmsnorm));

// The loss reads both y and s, so d_residual is the gradient that reaches s past the norm.
TEST_P(NormGradient, OfXWeightBias) {
    Random random(3);
    const Shape shape = {3, 6};
    const bool centred = GetParam() == NormKind::layernorm;
    Values x = random.normal(18);
    Values residual = random.normal(18);
    Values weight = random.normal(6);
    Values bias = random.normal(6);
    Values d_y = random.normal(18);
    Values d_s = random.normal(18);
    Values s(18);
    Values mean(3);
    Values rstd(3);
    const auto loss = [&] {
        Values y(18);
        reference::compute(Norm{.kind = GetParam(),
                                .x = tensor(x, shape),
                                .residual = tensor(residual, shape),
                                .sum = tensor(s, shape),
                                .weight = tensor(weight, {6}),
                                .bias = centred ? tensor(bias, {6}) : Tensor(),
                                .y = tensor(y, shape),
                                .mean = centred ? tensor(mean, {3}) : Tensor(),
                                .rstd = tensor(rstd, {3})});
        return dot(y, d_y) + dot(s, d_s);
    };
    loss();
    Values d_x(18);
    Values d_weight(6);
    Values d_bias(6);
    reference::compute(NormBackward{.kind = GetParam(),
                                    .d_y = tensor(d_y, shape),
                                    .x = tensor(s, shape),
                                    .weight = tensor(weight, {6}),
                                    .mean = centred ? tensor(mean, {3}) : Tensor(),
                                    .rstd = tensor(rstd, {3}),
                                    .d_residual = tensor(d_s, shape),
                                    .d_x = tensor(d_x, shape),
                                    .d_weight = tensor(d_weight, {6}),
                                    .d_bias = centred ? tensor(d_bias, {6}) : Tensor()});
    expect_gradient("x", x, loss, d_x, kScale);
    expect_gradient("residual", residual, loss, d_x, kScale);
    expect_gradient("weight", weight, loss, d_weight, kScale);
    if (centred) {
        expect_gradient("bias", bias, loss, d_bias, kScale);
    }
}

TEST(Gradient, Rotary) {
    Random random(4);
    const AttentionHeads heads{2, 1, 4};
    const Shape shape = {2, 3, heads.qkv_columns()};
    Values table;
    for (int position = 0; position < 5; ++position) {
        for (const double angle : {0.7 * position, 0.1 * position}) {
            table.push_back(std::cos(angle));
        }
        for (const double angle : {0.7 * position, 0.1 * position}) {
            table.push_back(std::sin(angle));
        }
    }
    Values qkv = random.normal(shape.size());
    Values d_qkv = random.normal(shape.size());
    Rotary op{.heads = heads, .qkv = {}, .table = tensor(table, {5, 4}), .first_position = 2};
    const Values d_rotated = d_qkv;
    const auto loss = [&] {
        Values rotated = qkv;
        op.qkv = tensor(rotated, shape);
        op.inverse = false;
        reference::compute(op);
        return dot(rotated, d_rotated);
    };
    op.qkv = tensor(d_qkv, shape);
    op.inverse = true;
    reference::compute(op);
    expect_gradient("qkv", qkv, loss, d_qkv, kScale);
}

class AttentionGradient : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Alibi, AttentionGradient, testing::Bool());

TEST_P(AttentionGradient, OfQkv) {
    Random random(5);
    const AttentionHeads heads{4, 2, 3};
    const Shape shape = {2, 5, heads.qkv_columns()};
    const Shape y_shape = {2, 5, 12};
    Values qkv = random.normal(shape.size());
    Values slope_values = {0.5, 0.25, 0.125, 0.0625};
    const Tensor slopes = GetParam() ? tensor(slope_values, {4}) : Tensor();
    Values d_y = random.normal(y_shape.size());
    Values y(d_y.size());
    Values statistics(2 * 4 * 5);
    const auto loss = [&] {
        reference::compute(Attention{.heads = heads,
                                     .qkv = tensor(qkv, shape),
                                     .slopes = slopes,
                                     .y = tensor(y, y_shape),
                                     .log_sum_exp = tensor(statistics, {2, 4, 5})});
        return dot(y, d_y);
    };
    loss();
    Values d_qkv(qkv.size());
    reference::compute(AttentionBackward{.heads = heads,
                                         .d_y = tensor(d_y, y_shape),
                                         .qkv = tensor(qkv, shape),
                                         .slopes = slopes,
                                         .y = tensor(y, y_shape),
                                         .log_sum_exp = tensor(statistics, {2, 4, 5}),
                                         .d_qkv = tensor(d_qkv, shape)});
    expect_gradient("qkv", qkv, loss, d_qkv, kScale);
}

class GeluGradient : public testing::TestWithParam<Activation> {};
INSTANTIATE_TEST_SUITE_P(Forms, GeluGradient,
                         testing::Values(Activation::gelu_exact, Activation::gelu_tanh));

TEST_P(GeluGradient, OfX) {
    Random random(6);
    Values x = random.normal(40, 2);
    Values d_y = random.normal(40);
    Values d_x(40);
    const auto loss = [&] {
        Values y(40);
        reference::compute(
            Gelu{.activation = GetParam(), .x = tensor(x, {40}), .y = tensor(y, {40})});
        return dot(y, d_y);
    };
    reference::compute(GeluBackward{.activation = GetParam(),
                                    .d_y = tensor(d_y, {40}),
                                    .x = tensor(x, {40}),
                                    .d_x = tensor(d_x, {40})});
    expect_gradient("x", x, loss, d_x, kScale);
}

TEST(Gradient, Swiglu) {
    Random random(7);
    Values gate_up = random.normal(3 * 10, 2);
    Values d_y = random.normal(3 * 5);
    Values d_gate_up(gate_up.size());
    const auto loss = [&] {
        Values y(3 * 5);
        reference::compute(Swiglu{.gate_up = tensor(gate_up, {3, 10}), .y = tensor(y, {3, 5})});
        return dot(y, d_y);
    };
    reference::compute(SwigluBackward{.d_y = tensor(d_y, {3, 5}),
                                      .gate_up = tensor(gate_up, {3, 10}),
                                      .d_gate_up = tensor(d_gate_up, {3, 10})});
    expect_gradient("gate_up", gate_up, loss, d_gate_up, kScale);
}

TEST(Gradient, CrossEntropy) {
    Random random(8);
    Values logits = random.normal(4 * 7);
    std::vector<int32_t> target_values = {2, -1, 0, 4};
    Values losses(4);
    CrossEntropy op{.logits = tensor(logits, {4, 7}),
                    .targets = Tensor(target_values.data(), DType::i32, {4}),
                    .vocabulary = 5,
                    .scale = 0.25F,
                    .losses = tensor(losses, {4})};
    const auto loss = [&] {
        reference::compute(op);
        return 0.25 * dot(losses, {1, 1, 1, 1});
    };
    Values d_logits(logits.size());
    CrossEntropy with_gradient = op;
    with_gradient.d_logits = tensor(d_logits, {4, 7});
    reference::compute(with_gradient);
    expect_gradient("logits", logits, loss, d_logits, kScale);
}

}  // namespace
}  // namespace lathe::test
