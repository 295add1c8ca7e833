// What every operation demands of its arguments. Backend::run calls check(op) before anything is
// issued, so that no backend has to.
#include "kernels/operations.h"

#include "kernels/arguments.h"

namespace lathe {
namespace {

void check_heads(const Arguments& args, const AttentionHeads& heads) {
    args.require(heads.heads > 0 && heads.kv_heads > 0 && heads.head_size > 0,
                 "heads {}, kv_heads {} and head_size {} should be positive", heads.heads,
                 heads.kv_heads, heads.head_size);
    args.require(heads.heads % heads.kv_heads == 0, "kv_heads {} should divide heads {}",
                 heads.kv_heads, heads.heads);
}

/// Checks the packed [B, T, (H+2K)D] argument and returns it as B, T, columns.
Shape check_qkv(const Arguments& args, const AttentionHeads& heads, const Tensor& qkv) {
    check_heads(args, heads);
    args.rank("qkv", qkv, 3, "[B, T, (H+2K)D]");
    return {qkv.shape()[0], qkv.shape()[1], heads.qkv_columns()};
}

void check_positions(const Arguments& args, const char* table, int64_t first, int64_t count,
                     int64_t positions) {
    args.require(first >= 0 && first + count <= positions,
                 "positions {} to {} are outside of {} with {} positions", first, first + count,
                 table, positions);
}

}  // namespace

void check(const Matmul& op) {
    Arguments args("Matmul");
    const DType compute = args.compute("a", op.a);
    args.compute("b", op.b);
    args.compute("d", op.d);
    const int64_t m = op.transpose_a ? op.a.columns() : op.a.rows();
    const int64_t k = op.transpose_a ? op.a.rows() : op.a.columns();
    const int64_t n = op.transpose_b ? op.b.rows() : op.b.columns();
    args.input("a", op.a, compute, op.transpose_a ? Shape{k, m} : Shape{m, k});
    args.input("b", op.b, compute, op.transpose_b ? Shape{n, k} : Shape{k, n});
    const DType accumulation = accumulation_dtype(compute);
    const bool wide = op.accumulate || op.d.dtype() == accumulation;
    args.output("d", op.d, wide ? accumulation : compute, {m, n}, {&op.residual});
    args.require(!op.accumulate || (!op.bias && op.activation == Activation::none && !op.residual),
                 "accumulate takes no bias, activation or residual");
    args.require(!op.pre_activation || op.activation != Activation::none,
                 "pre_activation is given, should be absent without an activation");
    args.optional_input("bias", op.bias, compute, {n});
    args.optional_output("pre_activation", op.pre_activation, compute, {m, n});
    args.optional_input("residual", op.residual, compute, {m, n});
    args.done(op.workspace);
}

void check(const BiasBackward& op) {
    Arguments args("BiasBackward");
    const DType compute = args.compute("d_y", op.d_y);
    args.input("d_y", op.d_y, compute, op.d_y.shape());
    args.output("d_bias", op.d_bias, accumulation_dtype(compute), {op.d_y.columns()});
    args.done(op.workspace);
}

void check(const Embedding& op) {
    Arguments args("Embedding");
    const DType compute = args.compute("token_table", op.token_table);
    args.rank("token_table", op.token_table, 2, "[V, C]");
    args.rank("tokens", op.tokens, 2, "[B, T]");
    const int64_t batch = op.tokens.shape()[0];
    const int64_t time = op.tokens.shape()[1];
    const int64_t channels = op.token_table.columns();
    args.input("tokens", op.tokens, DType::i32, {batch, time});
    args.input("token_table", op.token_table, compute, op.token_table.shape());
    if (op.position_table) {
        args.rank("position_table", op.position_table, 2, "[P, C]");
        args.input("position_table", op.position_table, compute,
                   {op.position_table.rows(), channels});
        check_positions(args, "position_table", op.first_position, time, op.position_table.rows());
    }
    args.output("y", op.y, compute, {batch, time, channels});
    args.done(op.workspace);
}

void check(const EmbeddingBackward& op) {
    Arguments args("EmbeddingBackward");
    const DType compute = args.compute("d_y", op.d_y);
    const DType accumulation = accumulation_dtype(compute);
    args.rank("tokens", op.tokens, 2, "[B, T]");
    args.rank("d_token_table", op.d_token_table, 2, "[V, C]");
    const int64_t batch = op.tokens.shape()[0];
    const int64_t time = op.tokens.shape()[1];
    const int64_t channels = op.d_token_table.columns();
    args.input("tokens", op.tokens, DType::i32, {batch, time});
    args.input("d_y", op.d_y, compute, {batch, time, channels});
    args.output("d_token_table", op.d_token_table, accumulation, op.d_token_table.shape());
    if (op.d_position_table) {
        args.rank("d_position_table", op.d_position_table, 2, "[P, C]");
        args.output("d_position_table", op.d_position_table, accumulation,
                    {op.d_position_table.rows(), channels});
        check_positions(args, "d_position_table", 0, time, op.d_position_table.rows());
    }
    args.done(op.workspace);
}

void check(const Norm& op) {
    Arguments args("Norm");
    const DType compute = args.compute("x", op.x);
    const DType accumulation = accumulation_dtype(compute);
    const Shape shape = {op.x.rows(), op.x.columns()};
    const bool centred = op.kind == NormKind::layernorm;
    args.present("sum", op.sum, static_cast<bool>(op.residual), "exactly when residual is");
    args.present("bias", op.bias, centred, "exactly for layernorm");
    args.present("mean", op.mean, centred, "exactly for layernorm");
    args.input("x", op.x, compute, shape);
    args.optional_input("residual", op.residual, compute, shape);
    args.input("weight", op.weight, compute, {shape[1]});
    args.optional_input("bias", op.bias, compute, {shape[1]});
    args.optional_output("sum", op.sum, compute, shape, {&op.x, &op.residual});
    args.output("y", op.y, compute, shape);
    args.optional_output("mean", op.mean, accumulation, {shape[0]});
    args.output("rstd", op.rstd, accumulation, {shape[0]});
    args.done(op.workspace);
}

void check(const NormBackward& op) {
    Arguments args("NormBackward");
    const DType compute = args.compute("x", op.x);
    const DType accumulation = accumulation_dtype(compute);
    const Shape shape = {op.x.rows(), op.x.columns()};
    const bool centred = op.kind == NormKind::layernorm;
    args.present("mean", op.mean, centred, "exactly for layernorm");
    args.present("d_bias", op.d_bias, centred, "exactly for layernorm");
    args.input("d_y", op.d_y, compute, shape);
    args.input("x", op.x, compute, shape);
    args.input("weight", op.weight, compute, {shape[1]});
    args.optional_input("mean", op.mean, accumulation, {shape[0]});
    args.input("rstd", op.rstd, accumulation, {shape[0]});
    args.optional_input("d_residual", op.d_residual, compute, shape);
    args.output("d_x", op.d_x, compute, shape, {&op.d_y, &op.d_residual});
    args.output("d_weight", op.d_weight, accumulation, {shape[1]});
    args.optional_output("d_bias", op.d_bias, accumulation, {shape[1]});
    args.done(op.workspace);
}

void check(const Rotary& op) {
    Arguments args("Rotary");
    const DType compute = args.compute("qkv", op.qkv);
    const Shape shape = check_qkv(args, op.heads, op.qkv);
    args.require(op.heads.head_size % 2 == 0, "head_size {} should be even", op.heads.head_size);
    args.rank("table", op.table, 2, "[P, D]");
    args.input("table", op.table, accumulation_dtype(compute),
               {op.table.rows(), op.heads.head_size});
    check_positions(args, "table", op.first_position, shape[1], op.table.rows());
    args.output("qkv", op.qkv, compute, shape);
    args.done(op.workspace);
}

void check(const Attention& op) {
    Arguments args("Attention");
    const DType compute = args.compute("qkv", op.qkv);
    const DType accumulation = accumulation_dtype(compute);
    const Shape shape = check_qkv(args, op.heads, op.qkv);
    const auto [heads, kv_heads, head_size] = op.heads;
    args.input("qkv", op.qkv, compute, shape);
    args.optional_input("slopes", op.slopes, accumulation, {heads});
    args.output("y", op.y, compute, {shape[0], shape[1], heads * head_size});
    args.output("log_sum_exp", op.log_sum_exp, accumulation, {shape[0], heads, shape[1]});
    args.done(op.workspace);
}

void check(const AttentionBackward& op) {
    Arguments args("AttentionBackward");
    const DType compute = args.compute("qkv", op.qkv);
    const DType accumulation = accumulation_dtype(compute);
    const Shape shape = check_qkv(args, op.heads, op.qkv);
    const auto [heads, kv_heads, head_size] = op.heads;
    const Shape y_shape = {shape[0], shape[1], heads * head_size};
    args.input("d_y", op.d_y, compute, y_shape);
    args.input("qkv", op.qkv, compute, shape);
    args.optional_input("slopes", op.slopes, accumulation, {heads});
    args.input("y", op.y, compute, y_shape);
    args.input("log_sum_exp", op.log_sum_exp, accumulation, {shape[0], heads, shape[1]});
    args.output("d_qkv", op.d_qkv, compute, shape);
    args.done(op.workspace);
}

void check(const CachedAttention& op) {
    Arguments args("CachedAttention");
    const DType compute = args.compute("qkv", op.qkv);
    const Shape shape = check_qkv(args, op.heads, op.qkv);
    const auto [heads, kv_heads, head_size] = op.heads;
    args.rank("key_cache", op.key_cache, 4, "[B, K, P, D]");
    const int64_t positions = op.key_cache.shape()[2];
    const Shape cache = {shape[0], kv_heads, positions, head_size};
    args.input("qkv", op.qkv, compute, shape);
    args.optional_input("slopes", op.slopes, accumulation_dtype(compute), {heads});
    args.output("key_cache", op.key_cache, compute, cache);
    args.output("value_cache", op.value_cache, compute, cache);
    check_positions(args, "key_cache", op.first_position, shape[1], positions);
    args.output("y", op.y, compute, {shape[0], shape[1], heads * head_size});
    args.done(op.workspace);
}

void check(const Gelu& op) {
    Arguments args("Gelu");
    const DType compute = args.compute("x", op.x);
    args.require(op.activation != Activation::none, "activation is none, should be a GELU");
    args.input("x", op.x, compute, op.x.shape());
    args.output("y", op.y, compute, op.x.shape());
    args.done(op.workspace);
}

void check(const GeluBackward& op) {
    Arguments args("GeluBackward");
    const DType compute = args.compute("x", op.x);
    args.require(op.activation != Activation::none, "activation is none, should be a GELU");
    args.input("d_y", op.d_y, compute, op.x.shape());
    args.input("x", op.x, compute, op.x.shape());
    args.output("d_x", op.d_x, compute, op.x.shape(), {&op.d_y});
    args.done(op.workspace);
}

void check(const Swiglu& op) {
    Arguments args("Swiglu");
    const DType compute = args.compute("gate_up", op.gate_up);
    const int64_t rows = op.gate_up.rows();
    const int64_t columns = op.gate_up.columns();
    args.require(columns % 2 == 0, "gate_up is {}, should have an even number of columns",
                 describe(op.gate_up));
    args.input("gate_up", op.gate_up, compute, {rows, columns});
    args.output("y", op.y, compute, {rows, columns / 2});
    args.done(op.workspace);
}

void check(const SwigluBackward& op) {
    Arguments args("SwigluBackward");
    const DType compute = args.compute("gate_up", op.gate_up);
    const int64_t rows = op.gate_up.rows();
    const int64_t columns = op.gate_up.columns();
    args.require(columns % 2 == 0, "gate_up is {}, should have an even number of columns",
                 describe(op.gate_up));
    args.input("d_y", op.d_y, compute, {rows, columns / 2});
    args.input("gate_up", op.gate_up, compute, {rows, columns});
    args.output("d_gate_up", op.d_gate_up, compute, {rows, columns}, {&op.gate_up});
    args.done(op.workspace);
}

void check(const CrossEntropy& op) {
    Arguments args("CrossEntropy");
    const DType logits = args.compute("logits", op.logits);
    const Shape shape = {op.logits.rows(), op.logits.columns()};
    args.require(op.vocabulary > 0 && op.vocabulary <= shape[1],
                 "vocabulary is {}, should be from 1 to {}, the columns of logits", op.vocabulary,
                 shape[1]);
    args.input("logits", op.logits, logits, shape);
    args.input("targets", op.targets, DType::i32, {shape[0]});
    args.output("losses", op.losses, accumulation_dtype(logits), {shape[0]});
    if (op.d_logits) {
        // f32 logits may be those of a bf16 model, whose gradients are bf16.
        const bool narrow = logits == DType::f32 && op.d_logits.dtype() == DType::bf16;
        const DType dtype = narrow ? DType::bf16 : logits;
        args.output("d_logits", op.d_logits, dtype, shape, {&op.logits});
    }
    args.done(op.workspace);
}

void check(const AdamW& op) {
    Arguments args("AdamW");
    const DType accumulation = accumulation_dtype(args.compute("master", op.master));
    const Shape shape = {op.master.size()};
    args.require(op.step >= 1, "step is {}, should be at least 1", op.step);
    args.input("gradient", op.gradient, accumulation, shape);
    args.output("master", op.master, accumulation, shape);
    args.output("first_moment", op.first_moment, accumulation, shape);
    args.output("second_moment", op.second_moment, accumulation, shape);
    args.optional_output("parameter", op.parameter, DType::bf16, shape);
    args.done(op.workspace);
}

void check(const Accumulate& op) {
    Arguments args("Accumulate");
    const DType accumulation = accumulation_dtype(args.compute("sum", op.sum));
    const Shape shape = {op.sum.size()};
    args.output("sum", op.sum, accumulation, shape);
    args.require(!op.contributions.empty(), "contributions is empty, should hold at least one");
    for (const Tensor& contribution : op.contributions) {
        args.compute("contributions", contribution);
        const bool narrow = accumulation == DType::f32 && contribution.dtype() == DType::bf16;
        args.expect("contributions", contribution, narrow ? DType::bf16 : accumulation, shape);
    }
    args.inputs("contributions", op.contributions);
    args.done(op.workspace);
}

void check(const SquaredNorm& op) {
    Arguments args("SquaredNorm");
    const DType compute = args.compute("x", op.x);
    args.input("x", op.x, accumulation_dtype(compute), op.x.shape());
    args.output("partial", op.partial, DType::f64,
                {(op.x.size() + kChunkElements - 1) / kChunkElements});
    args.done(op.workspace);
}

void check(const Cast& op) {
    Arguments args("Cast");
    args.compute("x", op.x);
    args.compute("y", op.y);
    args.input("x", op.x, op.x.dtype(), {op.x.size()});
    args.output("y", op.y, op.y.dtype(), {op.x.size()});
    args.done(op.workspace);
}

}  // namespace lathe
