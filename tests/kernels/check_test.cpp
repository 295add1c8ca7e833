// Wrong arguments are refused with an Error that names the operation, the argument, what it is and
// what it should be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/operations.h"

namespace lathe::test {
namespace {

using testing::HasSubstr;

/// Tensors of nothing, at addresses that do not overlap.
class Check : public testing::Test {
  protected:
    Tensor make(DType dtype, Shape shape) {
        const Tensor tensor(reinterpret_cast<void*>(next_), dtype, shape);
        next_ += tensor.bytes() + 64;
        return tensor;
    }
    Tensor f32(Shape shape) { return make(DType::f32, shape); }
    Tensor bf16s(Shape shape) { return make(DType::bf16, shape); }
    Tensor i32(Shape shape) { return make(DType::i32, shape); }

    template <typename Operation>
    static std::string refusal(const Operation& op) {
        try {
            check(op);
        } catch (const Error& error) {
            return error.what();
        }
        return "accepted";
    }

    Matmul matmul() {
        return {.a = bf16s({2, 3, 4}), .b = bf16s({5, 4}), .d = bf16s({6, 5}), .transpose_b = true};
    }
    Norm norm() {
        return {.x = f32({6, 4}),
                .weight = f32({4}),
                .bias = f32({4}),
                .y = f32({6, 4}),
                .mean = f32({6}),
                .rstd = f32({6})};
    }
    Attention attention() {
        return {.heads = {4, 2, 8},
                .qkv = bf16s({2, 5, 64}),
                .y = bf16s({2, 5, 32}),
                .log_sum_exp = f32({2, 4, 5})};
    }
    AdamW adamw() {
        return {.gradient = f32({10}),
                .master = f32({10}),
                .first_moment = f32({10}),
                .second_moment = f32({10})};
    }

  private:
    uintptr_t next_ = 4096;
};

TEST_F(Check, AcceptsWhatIsRight) {
    EXPECT_EQ(refusal(matmul()), "accepted");
    EXPECT_EQ(refusal(norm()), "accepted");
    EXPECT_EQ(refusal(attention()), "accepted");
    EXPECT_EQ(refusal(adamw()), "accepted");
}

TEST_F(Check, TextIsOneWholeSentence) {
    Matmul op = matmul();
    op.bias = f32({4});
    EXPECT_EQ(refusal(op), "Matmul: bias is f32 [4], should be bf16 [5]");
    op = matmul();
    op.d = Tensor();
    EXPECT_EQ(refusal(op), "Matmul: d is missing");
}

TEST_F(Check, Matmul) {
    Matmul op = matmul();
    op.b = bf16s({5, 3});
    EXPECT_THAT(refusal(op), HasSubstr("Matmul: b is bf16 [5, 3], should be bf16 [5, 4]"));
    op = matmul();
    op.a = f32({6, 4});
    EXPECT_THAT(refusal(op), HasSubstr("b is bf16 [5, 4], should be f32"));
    op = matmul();
    op.accumulate = true;
    EXPECT_THAT(refusal(op), HasSubstr("d is bf16 [6, 5], should be f32 [6, 5]"));
    op.d = f32({6, 5});
    EXPECT_EQ(refusal(op), "accepted");
    op.bias = bf16s({5});
    EXPECT_THAT(refusal(op), HasSubstr("accumulate takes no bias"));
    op = matmul();
    op.pre_activation = bf16s({6, 5});
    EXPECT_THAT(refusal(op), HasSubstr("pre_activation"));
    op = matmul();
    op.residual = op.d;
    EXPECT_EQ(refusal(op), "accepted");
    op.residual = Tensor(static_cast<std::byte*>(op.d.data()) + 2, DType::bf16, {6, 5});
    EXPECT_THAT(refusal(op), HasSubstr("d overlaps residual"));
    op = matmul();
    op.d = Tensor(op.a.data(), DType::bf16, {6, 5});
    EXPECT_THAT(refusal(op), HasSubstr("d overlaps a"));
    op = matmul();
    op.workspace = op.d;
    EXPECT_THAT(refusal(op), HasSubstr("workspace overlaps d"));
}

TEST_F(Check, BiasBackward) {
    EXPECT_THAT(refusal(BiasBackward{.d_y = bf16s({3, 4}), .d_bias = bf16s({4})}),
                HasSubstr("BiasBackward: d_bias is bf16 [4], should be f32 [4]"));
}

TEST_F(Check, Embedding) {
    Embedding op{.tokens = i32({2, 3}),
                 .token_table = f32({9, 4}),
                 .position_table = f32({5, 4}),
                 .y = f32({2, 3, 4})};
    EXPECT_EQ(refusal(op), "accepted");
    op.first_position = 3;
    EXPECT_THAT(refusal(op), HasSubstr("positions 3 to 6 are outside of position_table with 5"));
    op.first_position = 0;
    op.tokens = f32({2, 3});
    EXPECT_THAT(refusal(op), HasSubstr("tokens is f32 [2, 3], should be i32 [2, 3]"));
    op.tokens = i32({6});
    EXPECT_THAT(refusal(op), HasSubstr("should have the 2 dimensions [B, T]"));
}

TEST_F(Check, EmbeddingBackward) {
    EmbeddingBackward op{.tokens = i32({2, 3}),
                         .d_y = bf16s({2, 3, 4}),
                         .d_token_table = f32({9, 4}),
                         .d_position_table = f32({2, 4})};
    EXPECT_THAT(refusal(op), HasSubstr("outside of d_position_table with 2 positions"));
    op.d_position_table = Tensor();
    op.d_y = bf16s({2, 3, 5});
    EXPECT_THAT(refusal(op), HasSubstr("d_y is bf16 [2, 3, 5], should be bf16 [2, 3, 4]"));
}

TEST_F(Check, Norm) {
    Norm op = norm();
    op.residual = f32({6, 4});
    EXPECT_THAT(refusal(op), HasSubstr("sum is missing, should be given"));
    op.sum = op.residual;
    EXPECT_EQ(refusal(op), "accepted");
    op = norm();
    op.kind = NormKind::rmsnorm;
    EXPECT_THAT(refusal(op), HasSubstr("bias is given, should be absent exactly for layernorm"));
    op = norm();
    op.y = op.x;
    EXPECT_THAT(refusal(op), HasSubstr("y overlaps x"));
    op = norm();
    op.rstd = f32({5});
    EXPECT_THAT(refusal(op), HasSubstr("rstd is f32 [5], should be f32 [6]"));
}

TEST_F(Check, NormBackward) {
    NormBackward op{.kind = NormKind::rmsnorm,
                    .d_y = bf16s({6, 4}),
                    .x = bf16s({6, 4}),
                    .weight = bf16s({4}),
                    .rstd = f32({6}),
                    .d_x = bf16s({6, 4}),
                    .d_weight = bf16s({4})};
    EXPECT_THAT(refusal(op), HasSubstr("d_weight is bf16 [4], should be f32 [4]"));
    op.d_weight = f32({4});
    EXPECT_EQ(refusal(op), "accepted");
    op.d_x = op.d_y;
    EXPECT_EQ(refusal(op), "accepted");
    op.d_x = op.x;
    EXPECT_THAT(refusal(op), HasSubstr("d_x overlaps x"));
}

TEST_F(Check, Rotary) {
    Rotary op{.heads = {4, 2, 8}, .qkv = f32({2, 5, 64}), .table = f32({6, 8})};
    EXPECT_EQ(refusal(op), "accepted");
    op.first_position = 2;
    EXPECT_THAT(refusal(op), HasSubstr("positions 2 to 7 are outside of table"));
    op.first_position = 0;
    op.heads.head_size = 7;
    EXPECT_THAT(refusal(op), HasSubstr("head_size 7 should be even"));
}

TEST_F(Check, Attention) {
    Attention op = attention();
    op.heads.kv_heads = 3;
    EXPECT_THAT(refusal(op), HasSubstr("kv_heads 3 should divide heads 4"));
    op = attention();
    op.heads.head_size = 9;
    EXPECT_THAT(refusal(op), HasSubstr("qkv is bf16 [2, 5, 64], should be bf16 [2, 5, 72]"));
    op = attention();
    op.slopes = bf16s({4});
    EXPECT_THAT(refusal(op), HasSubstr("slopes is bf16 [4], should be f32 [4]"));
    op = attention();
    op.qkv = bf16s({10, 64});
    EXPECT_THAT(refusal(op), HasSubstr("should have the 3 dimensions [B, T, (H+2K)D]"));
}

TEST_F(Check, AttentionBackward) {
    const Attention forward = attention();
    AttentionBackward op{.heads = forward.heads,
                         .d_y = bf16s({2, 5, 32}),
                         .qkv = forward.qkv,
                         .y = forward.y,
                         .log_sum_exp = forward.log_sum_exp,
                         .d_qkv = bf16s({2, 5, 64})};
    EXPECT_EQ(refusal(op), "accepted");
    op.d_qkv = op.qkv;
    EXPECT_THAT(refusal(op), HasSubstr("d_qkv overlaps qkv"));
    op.d_qkv = bf16s({2, 5, 32});
    EXPECT_THAT(refusal(op), HasSubstr("d_qkv is bf16 [2, 5, 32]"));
}

TEST_F(Check, CachedAttention) {
    CachedAttention op{.heads = {4, 2, 8},
                       .qkv = f32({1, 3, 64}),
                       .key_cache = f32({1, 2, 10, 8}),
                       .value_cache = f32({1, 2, 10, 8}),
                       .first_position = 7,
                       .y = f32({1, 3, 32})};
    EXPECT_EQ(refusal(op), "accepted");
    op.first_position = 8;
    EXPECT_THAT(refusal(op), HasSubstr("positions 8 to 11 are outside of key_cache"));
    op.first_position = 0;
    op.value_cache = f32({1, 2, 9, 8});
    EXPECT_THAT(refusal(op), HasSubstr("value_cache is f32 [1, 2, 9, 8]"));
}

TEST_F(Check, Activations) {
    EXPECT_THAT(refusal(Gelu{.activation = Activation::none, .x = f32({3}), .y = f32({3})}),
                HasSubstr("Gelu: activation is none"));
    EXPECT_THAT(refusal(Gelu{.x = f32({3}), .y = f32({4})}), HasSubstr("y is f32 [4]"));
    EXPECT_THAT(refusal(GeluBackward{.d_y = f32({3}), .x = bf16s({3}), .d_x = bf16s({3})}),
                HasSubstr("GeluBackward: d_y is f32 [3], should be bf16 [3]"));
    EXPECT_THAT(refusal(Swiglu{.gate_up = f32({3, 5}), .y = f32({3, 2})}),
                HasSubstr("Swiglu: gate_up is f32 [3, 5], should have an even number of columns"));
    EXPECT_THAT(refusal(SwigluBackward{
                    .d_y = f32({3, 3}), .gate_up = f32({3, 4}), .d_gate_up = f32({3, 4})}),
                HasSubstr("SwigluBackward: d_y is f32 [3, 3], should be f32 [3, 2]"));
}

TEST_F(Check, CrossEntropy) {
    CrossEntropy op{.logits = bf16s({3, 8}),
                    .targets = i32({3}),
                    .vocabulary = 9,
                    .losses = f32({3}),
                    .d_logits = bf16s({3, 8})};
    EXPECT_THAT(refusal(op), HasSubstr("vocabulary is 9, should be from 1 to 8"));
    op.vocabulary = 7;
    EXPECT_EQ(refusal(op), "accepted");
    op.d_logits = f32({3, 8});
    EXPECT_THAT(refusal(op), HasSubstr("d_logits is f32 [3, 8], should be bf16 [3, 8]"));
    op.losses = bf16s({3});
    EXPECT_THAT(refusal(op), HasSubstr("losses is bf16 [3], should be f32 [3]"));
}

TEST_F(Check, AdamW) {
    AdamW op = adamw();
    op.step = 0;
    EXPECT_THAT(refusal(op), HasSubstr("AdamW: step is 0, should be at least 1"));
    op = adamw();
    op.parameter = f32({10});
    EXPECT_THAT(refusal(op), HasSubstr("parameter is f32 [10], should be bf16 [10]"));
    op = adamw();
    op.first_moment = op.second_moment;
    EXPECT_THAT(refusal(op), HasSubstr("second_moment overlaps first_moment"));
    op = adamw();
    op.gradient = bf16s({10});
    EXPECT_THAT(refusal(op), HasSubstr("gradient is bf16 [10]"));
}

TEST_F(Check, SumsAndCasts) {
    const Tensor parts[] = {bf16s({4}), f32({5})};
    Accumulate op{.sum = f32({4}), .contributions = parts};
    EXPECT_THAT(refusal(op), HasSubstr("Accumulate: contributions is f32 [5], should be f32 [4]"));
    op.contributions = {};
    EXPECT_THAT(refusal(op), HasSubstr("contributions is empty"));
    EXPECT_THAT(refusal(SquaredNorm{.x = f32({4097}), .partial = make(DType::f64, {1})}),
                HasSubstr("SquaredNorm: partial is f64 [1], should be f64 [2]"));
    EXPECT_THAT(refusal(Cast{.x = f32({4}), .y = i32({4})}), HasSubstr("Cast: y is i32 [4]"));
}

}  // namespace
}  // namespace lathe::test
