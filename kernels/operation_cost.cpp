#include "kernels/operation_cost.h"

#include <algorithm>
#include <initializer_list>

namespace lathe {
namespace {

double bytes_of(std::initializer_list<const Tensor*> tensors) {
    double bytes = 0.0;
    for (const Tensor* tensor : tensors) {
        bytes += static_cast<double>(tensor->bytes());
    }
    return bytes;
}

/// Walks its tensors once; `flops_per_element` of `counted`.
OperationCost streaming(OperationClass operation_class, const Tensor& counted,
                        double flops_per_element, std::initializer_list<const Tensor*> read,
                        std::initializer_list<const Tensor*> written) {
    return {.operation_class = operation_class,
            .flops = flops_per_element * static_cast<double>(counted.size()),
            .read_bytes = bytes_of(read),
            .written_bytes = bytes_of(written),
            .extent = counted.size(),
            .dtype = accumulation_dtype(counted.dtype())};
}

/// Products of queries with keys, or of scores with values: 2 D operations for each pair of a query
/// and a key that it sees.
double pair_flops(const AttentionHeads& heads, double batch, double pairs) {
    return 2.0 * batch * static_cast<double>(heads.heads * heads.head_size) * pairs;
}

double causal_pairs(int64_t time) {
    const auto t = static_cast<double>(time);
    return t * (t + 1.0) / 2.0;
}

}  // namespace

std::string_view name_of(OperationClass operation_class) {
    constexpr std::string_view kNames[kNumOperationClasses] = {
        "matmul",        "attention", "attention-backward", "norm", "activation", "rotary",
        "cross-entropy", "embedding", "optimizer",          "sum",  "copy"};
    return kNames[static_cast<size_t>(operation_class)];
}

OperationCost cost_of(const Matmul& op) {
    const int64_t rows = op.d.rows();
    const int64_t columns = op.d.columns();
    const int64_t inner = op.transpose_a ? op.a.rows() : op.a.columns();
    return {.operation_class = OperationClass::matmul,
            .flops = 2.0 * static_cast<double>(rows) * static_cast<double>(columns) *
                     static_cast<double>(inner),
            .read_bytes = bytes_of({&op.a, &op.b, &op.bias, &op.residual}) +
                          (op.accumulate ? bytes_of({&op.d}) : 0.0),
            .written_bytes = bytes_of({&op.d, &op.pre_activation}),
            .extent = std::min({rows, columns, inner}),
            .dtype = op.a.dtype()};
}

OperationCost cost_of(const BiasBackward& op) {
    return streaming(OperationClass::sum, op.d_y, 1.0, {&op.d_y}, {&op.d_bias});
}

OperationCost cost_of(const Embedding& op) {
    // As many rows of the tables are read as are written.
    const double rows = bytes_of({&op.y}) * (op.position_table ? 2.0 : 1.0);
    OperationCost cost = streaming(OperationClass::embedding, op.y, 1.0, {&op.tokens}, {&op.y});
    cost.read_bytes += rows;
    return cost;
}

OperationCost cost_of(const EmbeddingBackward& op) {
    OperationCost cost = streaming(OperationClass::embedding, op.d_y, 1.0, {&op.tokens, &op.d_y},
                                   {&op.d_position_table});
    // Added to: only the rows of tokens that occur, at most all of the table.
    const double rows = std::min(bytes_of({&op.d_token_table}),
                                 static_cast<double>(op.d_y.size()) *
                                     static_cast<double>(size_of(op.d_token_table.dtype())));
    cost.read_bytes += op.accumulate_tokens ? rows : 0.0;
    cost.written_bytes += op.accumulate_tokens ? rows : bytes_of({&op.d_token_table});
    return cost;
}

OperationCost cost_of(const Norm& op) {
    return streaming(OperationClass::norm, op.x, 8.0, {&op.x, &op.residual, &op.weight, &op.bias},
                     {&op.sum, &op.y, &op.mean, &op.rstd});
}

OperationCost cost_of(const NormBackward& op) {
    return streaming(OperationClass::norm, op.x, 14.0,
                     {&op.d_y, &op.x, &op.weight, &op.mean, &op.rstd, &op.d_residual},
                     {&op.d_x, &op.d_weight, &op.d_bias});
}

OperationCost cost_of(const Rotary& op) {
    // Queries and keys, in place; the table's rows stay in a cache.
    OperationCost cost = streaming(OperationClass::rotary, op.qkv, 3.0, {}, {});
    const double rotated = static_cast<double>(op.heads.heads + op.heads.kv_heads) /
                           static_cast<double>(op.heads.heads + 2 * op.heads.kv_heads);
    cost.flops *= rotated;
    cost.read_bytes = cost.written_bytes = rotated * bytes_of({&op.qkv});
    return cost;
}

OperationCost cost_of(const Attention& op) {
    const int64_t time = op.qkv.shape()[1];
    return {.operation_class = OperationClass::attention,
            .flops = 2.0 * pair_flops(op.heads, static_cast<double>(op.qkv.shape()[0]),
                                      causal_pairs(time)),
            .read_bytes = bytes_of({&op.qkv, &op.slopes}),
            .written_bytes = bytes_of({&op.y, &op.log_sum_exp}),
            .extent = time,
            .dtype = op.qkv.dtype()};
}

OperationCost cost_of(const AttentionBackward& op) {
    const int64_t time = op.qkv.shape()[1];
    // Scores again, d_values, d_scores, d_queries, d_keys.
    return {.operation_class = OperationClass::attention_backward,
            .flops = 5.0 * pair_flops(op.heads, static_cast<double>(op.qkv.shape()[0]),
                                      causal_pairs(time)),
            .read_bytes = bytes_of({&op.d_y, &op.qkv, &op.y, &op.log_sum_exp, &op.slopes}),
            .written_bytes = bytes_of({&op.d_qkv}),
            .extent = time,
            .dtype = op.qkv.dtype()};
}

OperationCost cost_of(const CachedAttention& op) {
    const int64_t batch = op.qkv.shape()[0];
    const int64_t time = op.qkv.shape()[1];
    const int64_t positions = op.first_position + time;
    const double pairs =
        static_cast<double>(time) * static_cast<double>(op.first_position) + causal_pairs(time);
    const double cached = static_cast<double>(batch * op.heads.kv_heads * op.heads.head_size) *
                          static_cast<double>(size_of(op.qkv.dtype()));
    return {.operation_class = OperationClass::attention,
            .flops = 2.0 * pair_flops(op.heads, static_cast<double>(batch), pairs),
            .read_bytes = bytes_of({&op.qkv}) + 2.0 * cached * static_cast<double>(positions),
            .written_bytes = bytes_of({&op.y}) + 2.0 * cached * static_cast<double>(time),
            .extent = positions,
            .dtype = op.qkv.dtype()};
}

OperationCost cost_of(const Gelu& op) {
    return streaming(OperationClass::activation, op.x, 12.0, {&op.x}, {&op.y});
}

OperationCost cost_of(const GeluBackward& op) {
    return streaming(OperationClass::activation, op.x, 20.0, {&op.d_y, &op.x}, {&op.d_x});
}

OperationCost cost_of(const Swiglu& op) {
    return streaming(OperationClass::activation, op.y, 6.0, {&op.gate_up}, {&op.y});
}

OperationCost cost_of(const SwigluBackward& op) {
    return streaming(OperationClass::activation, op.d_y, 12.0, {&op.d_y, &op.gate_up},
                     {&op.d_gate_up});
}

OperationCost cost_of(const CrossEntropy& op) {
    // Logits once: a row stays in a cache, or where the GPU keeps it, until its gradient is due.
    return streaming(OperationClass::cross_entropy, op.logits, 8.0, {&op.logits, &op.targets},
                     {&op.losses, &op.d_logits});
}

OperationCost cost_of(const AdamW& op) {
    return streaming(OperationClass::optimizer, op.master, 16.0,
                     {&op.gradient, &op.master, &op.first_moment, &op.second_moment},
                     {&op.master, &op.first_moment, &op.second_moment, &op.parameter});
}

OperationCost cost_of(const Accumulate& op) {
    OperationCost cost = streaming(OperationClass::sum, op.sum,
                                   static_cast<double>(op.contributions.size()), {}, {&op.sum});
    cost.read_bytes = op.assign ? 0.0 : bytes_of({&op.sum});
    for (const Tensor& contribution : op.contributions) {
        cost.read_bytes += bytes_of({&contribution});
    }
    return cost;
}

OperationCost cost_of(const SquaredNorm& op) {
    return streaming(OperationClass::sum, op.x, 2.0, {&op.x}, {&op.partial});
}

OperationCost cost_of(const Cast& op) {
    return streaming(OperationClass::copy, op.x, 0.0, {&op.x}, {&op.y});
}

}  // namespace lathe
