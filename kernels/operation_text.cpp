#include "kernels/operation_text.h"

namespace lathe {
namespace {

/// The one tensor that says how much there is to do.
const Tensor& main_tensor(const BiasBackward& op) { return op.d_y; }
const Tensor& main_tensor(const Embedding& op) { return op.y; }
const Tensor& main_tensor(const EmbeddingBackward& op) { return op.d_y; }
const Tensor& main_tensor(const Norm& op) { return op.x; }
const Tensor& main_tensor(const NormBackward& op) { return op.x; }
const Tensor& main_tensor(const Rotary& op) { return op.qkv; }
const Tensor& main_tensor(const Gelu& op) { return op.x; }
const Tensor& main_tensor(const GeluBackward& op) { return op.x; }
const Tensor& main_tensor(const Swiglu& op) { return op.gate_up; }
const Tensor& main_tensor(const SwigluBackward& op) { return op.gate_up; }
const Tensor& main_tensor(const CrossEntropy& op) { return op.logits; }
const Tensor& main_tensor(const AdamW& op) { return op.master; }
const Tensor& main_tensor(const SquaredNorm& op) { return op.x; }

std::string attention_text(const AttentionHeads& heads, const Tensor& qkv) {
    return fmt::format("{} heads {}/{}x{}", shape_text(qkv), heads.heads, heads.kv_heads,
                       heads.head_size);
}

}  // namespace

std::string shape_text(const Tensor& tensor) {
    if (!tensor) {
        return "";
    }
    std::string text;
    for (int i = 0; i < tensor.shape().rank(); ++i) {
        text += fmt::format("{}{}", i == 0 ? "" : "x", tensor.shape()[i]);
    }
    return fmt::format("{} {}", text, name_of(tensor.dtype()));
}

std::string shape_text(const Matmul& op) {
    const int64_t inner = op.transpose_a ? op.a.rows() : op.a.columns();
    std::string text =
        fmt::format("{}x{}x{} {}{} {}", op.d.rows(), op.d.columns(), inner,
                    op.transpose_a ? 'T' : 'N', op.transpose_b ? 'T' : 'N', name_of(op.a.dtype()));
    if (op.d.dtype() != op.a.dtype()) {
        text += fmt::format(" to {}", name_of(op.d.dtype()));
    }
    text += op.accumulate ? " +=" : "";
    text += op.bias ? " +bias" : "";
    text += op.activation != Activation::none ? " +gelu" : "";
    return text + (op.residual ? " +residual" : "");
}

std::string shape_text(const Attention& op) { return attention_text(op.heads, op.qkv); }
std::string shape_text(const AttentionBackward& op) { return attention_text(op.heads, op.qkv); }
std::string shape_text(const CachedAttention& op) {
    return fmt::format("{} after {}", attention_text(op.heads, op.qkv), op.first_position);
}

std::string shape_text(const Accumulate& op) {
    return fmt::format("{}{}{} from {}", shape_text(op.sum),
                       op.assign ? " = " : " += ", op.contributions.size(),
                       name_of(op.contributions[0].dtype()));
}

std::string shape_text(const Cast& op) {
    return fmt::format("{} to {}", shape_text(op.x), name_of(op.y.dtype()));
}

#define LATHE_MAIN_SHAPE_TEXT(Operation) \
    std::string shape_text(const Operation& op) { return shape_text(main_tensor(op)); }
LATHE_MAIN_SHAPE_TEXT(BiasBackward)
LATHE_MAIN_SHAPE_TEXT(Embedding)
LATHE_MAIN_SHAPE_TEXT(EmbeddingBackward)
LATHE_MAIN_SHAPE_TEXT(Norm)
LATHE_MAIN_SHAPE_TEXT(NormBackward)
LATHE_MAIN_SHAPE_TEXT(Rotary)
LATHE_MAIN_SHAPE_TEXT(Gelu)
LATHE_MAIN_SHAPE_TEXT(GeluBackward)
LATHE_MAIN_SHAPE_TEXT(Swiglu)
LATHE_MAIN_SHAPE_TEXT(SwigluBackward)
LATHE_MAIN_SHAPE_TEXT(CrossEntropy)
LATHE_MAIN_SHAPE_TEXT(AdamW)
LATHE_MAIN_SHAPE_TEXT(SquaredNorm)
#undef LATHE_MAIN_SHAPE_TEXT

}  // namespace lathe
