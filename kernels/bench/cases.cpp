#include "kernels/bench/cases.h"

#include <algorithm>
#include <utility>

#include "kernels/bench/case_tensors.h"

namespace lathe::bench {
namespace {

template <typename Operation>
class PreparedOperation final : public PreparedCase {
  public:
    PreparedOperation(Backend& backend, const std::function<Operation(CaseTensors&)>& describe)
        : workspace_(backend), tensors_(backend), operation_(describe(tensors_)) {}
    void issue() override { workspace_.run(operation_); }

  private:
    Workspace workspace_;
    AllocatedTensors tensors_;
    Operation operation_;
};

/// The cases of one model in one compute type.
class CaseMaker {
  public:
    CaseMaker(const ModelSizes& sizes, DType compute) : sizes_(sizes), compute_(compute) {}

    std::vector<BenchCase> take() { return std::move(cases_); }

    void add_products();
    void add_attention();
    void add_norms();
    void add_activations();
    void add_embedding();
    void add_loss();
    void add_optimizer();
    void add_generation();

  private:
    void add_linear(const std::string& name, int64_t in, int64_t out, bool residual);
    void add_product_backward(const std::string& name, int64_t rows, int64_t in, int64_t out);

    template <typename Operation>
    void add(const std::string& name, std::function<Operation(CaseTensors&)> describe) {
        ShapesOnly shapes;
        cases_.push_back({.name = fmt::format("{}/{}/{}", sizes_.name, name_of(compute_), name),
                          .cost = cost_of(describe(shapes)),
                          .prepare = [describe](Backend& backend) -> std::unique_ptr<PreparedCase> {
                              return std::make_unique<PreparedOperation<Operation>>(backend,
                                                                                    describe);
                          }});
    }

    const ModelSizes sizes_;
    const DType compute_;
    std::vector<BenchCase> cases_;
};

void CaseMaker::add_product_backward(const std::string& name, int64_t rows, int64_t in,
                                     int64_t out) {
    const DType compute = compute_;
    add<Matmul>("matmul/" + name + "/d_input", [=](CaseTensors& tensors) {
        return Matmul{.a = tensors.make({rows, out}, compute),
                      .b = tensors.make({out, in}, compute),
                      .d = tensors.make({rows, in}, compute)};
    });
    add<Matmul>("matmul/" + name + "/d_weight", [=](CaseTensors& tensors) {
        return Matmul{.a = tensors.make({rows, out}, compute),
                      .b = tensors.make({rows, in}, compute),
                      .d = tensors.make({out, in}, DType::f32),
                      .transpose_a = true};
    });
}

/// y = x weight^T + bias + residual, and its gradients.
void CaseMaker::add_linear(const std::string& name, int64_t in, int64_t out, bool residual) {
    const int64_t rows = sizes_.tokens();
    const DType compute = compute_;
    const bool bias = sizes_.biases;
    add<Matmul>("matmul/" + name + "/forward", [=](CaseTensors& tensors) {
        return Matmul{.a = tensors.make({rows, in}, compute),
                      .b = tensors.make({out, in}, compute),
                      .d = tensors.make({rows, out}, compute),
                      .transpose_b = true,
                      .bias = bias ? tensors.make({out}, compute) : Tensor(),
                      .residual = residual ? tensors.make({rows, out}, compute) : Tensor()};
    });
    add_product_backward(name, rows, in, out);
}

void CaseMaker::add_products() {
    const ModelSizes s = sizes_;
    const DType compute = compute_;
    add_linear("qkv", s.channels, s.heads.qkv_columns(), false);
    add_linear("projection", s.heads.heads * s.heads.head_size, s.channels, true);
    if (s.activation == Activation::none) {
        add_linear("gate_up", s.channels, 2 * s.feed_forward, false);
    } else {
        add<Matmul>("matmul/up_gelu/forward", [=](CaseTensors& tensors) {
            const Shape out = {s.tokens(), s.feed_forward};
            return Matmul{.a = tensors.make({s.tokens(), s.channels}, compute),
                          .b = tensors.make({s.feed_forward, s.channels}, compute),
                          .d = tensors.make(out, compute),
                          .transpose_b = true,
                          .bias = s.biases ? tensors.make({s.feed_forward}, compute) : Tensor(),
                          .activation = s.activation,
                          .pre_activation = tensors.make(out, compute)};
        });
        add_product_backward("up_gelu", s.tokens(), s.channels, s.feed_forward);
    }
    add_linear("down", s.feed_forward, s.channels, true);
    add<Matmul>("matmul/head/forward", [=](CaseTensors& tensors) {
        return Matmul{.a = tensors.make({s.head_rows, s.channels}, compute),
                      .b = tensors.make({s.vocabulary, s.channels}, compute),
                      .d = tensors.make({s.head_rows, s.vocabulary}, DType::f32),
                      .transpose_b = true};
    });
    add_product_backward("head", s.head_rows, s.channels, s.vocabulary);
    if (s.biases) {
        add<BiasBackward>("bias/backward", [=](CaseTensors& tensors) {
            return BiasBackward{.d_y = tensors.make({s.tokens(), s.feed_forward}, compute),
                                .d_bias = tensors.make({s.feed_forward}, DType::f32)};
        });
    }
}

void CaseMaker::add_attention() {
    const ModelSizes s = sizes_;
    const DType compute = compute_;
    const Shape qkv = {s.batch, s.time, s.heads.qkv_columns()};
    const Shape y = {s.batch, s.time, s.heads.heads * s.heads.head_size};
    const Shape statistics = {s.batch, s.heads.heads, s.time};
    add<Attention>("attention/forward", [=](CaseTensors& tensors) {
        return Attention{.heads = s.heads,
                         .qkv = tensors.make(qkv, compute),
                         .y = tensors.make(y, compute),
                         .log_sum_exp = tensors.make(statistics, DType::f32)};
    });
    add<AttentionBackward>("attention/backward", [=](CaseTensors& tensors) {
        return AttentionBackward{.heads = s.heads,
                                 .d_y = tensors.make(y, compute),
                                 .qkv = tensors.make(qkv, compute),
                                 .y = tensors.make(y, compute),
                                 .log_sum_exp = tensors.make(statistics, DType::f32),
                                 .d_qkv = tensors.make(qkv, compute)};
    });
    if (s.rotary) {
        add<Rotary>("rotary/forward", [=](CaseTensors& tensors) {
            return Rotary{.heads = s.heads,
                          .qkv = tensors.make(qkv, compute),
                          .table = tensors.make({s.time, s.heads.head_size}, DType::f32)};
        });
    }
}

void CaseMaker::add_norms() {
    const ModelSizes s = sizes_;
    const DType compute = compute_;
    const Shape rows = {s.tokens(), s.channels};
    const bool layernorm = s.norm == NormKind::layernorm;
    const auto forward = [=](CaseTensors& tensors, bool residual) {
        return Norm{.kind = s.norm,
                    .x = tensors.make(rows, compute),
                    .residual = residual ? tensors.make(rows, compute) : Tensor(),
                    .sum = residual ? tensors.make(rows, compute) : Tensor(),
                    .weight = tensors.make({s.channels}, compute),
                    .bias = layernorm ? tensors.make({s.channels}, compute) : Tensor(),
                    .y = tensors.make(rows, compute),
                    .mean = layernorm ? tensors.make({s.tokens()}, DType::f32) : Tensor(),
                    .rstd = tensors.make({s.tokens()}, DType::f32)};
    };
    const std::string name = layernorm ? "layernorm" : "rmsnorm";
    add<Norm>(name + "/forward", [=](CaseTensors& tensors) { return forward(tensors, false); });
    add<Norm>(name + "_residual/forward",
              [=](CaseTensors& tensors) { return forward(tensors, true); });
    add<NormBackward>(name + "/backward", [=](CaseTensors& tensors) {
        return NormBackward{
            .kind = s.norm,
            .d_y = tensors.make(rows, compute),
            .x = tensors.make(rows, compute),
            .weight = tensors.make({s.channels}, compute),
            .mean = layernorm ? tensors.make({s.tokens()}, DType::f32) : Tensor(),
            .rstd = tensors.make({s.tokens()}, DType::f32),
            .d_residual = tensors.make(rows, compute),
            .d_x = tensors.make(rows, compute),
            .d_weight = tensors.make({s.channels}, DType::f32),
            .d_bias = layernorm ? tensors.make({s.channels}, DType::f32) : Tensor()};
    });
}

void CaseMaker::add_activations() {
    const ModelSizes s = sizes_;
    const DType compute = compute_;
    const Shape hidden = {s.tokens(), s.feed_forward};
    const Shape gate_up = {s.tokens(), 2 * s.feed_forward};
    if (s.activation == Activation::none) {
        add<Swiglu>("swiglu/forward", [=](CaseTensors& tensors) {
            return Swiglu{.gate_up = tensors.make(gate_up, compute),
                          .y = tensors.make(hidden, compute)};
        });
        add<SwigluBackward>("swiglu/backward", [=](CaseTensors& tensors) {
            return SwigluBackward{.d_y = tensors.make(hidden, compute),
                                  .gate_up = tensors.make(gate_up, compute),
                                  .d_gate_up = tensors.make(gate_up, compute)};
        });
        return;
    }
    add<Gelu>("gelu/forward", [=](CaseTensors& tensors) {
        return Gelu{.activation = s.activation,
                    .x = tensors.make(hidden, compute),
                    .y = tensors.make(hidden, compute)};
    });
    add<GeluBackward>("gelu/backward", [=](CaseTensors& tensors) {
        return GeluBackward{.activation = s.activation,
                            .d_y = tensors.make(hidden, compute),
                            .x = tensors.make(hidden, compute),
                            .d_x = tensors.make(hidden, compute)};
    });
}

void CaseMaker::add_embedding() {
    const ModelSizes s = sizes_;
    const DType compute = compute_;
    const Shape tokens = {s.batch, s.time};
    const Shape y = {s.batch, s.time, s.channels};
    const auto positions = [=](CaseTensors& tensors, DType dtype) {
        return s.learned_positions ? tensors.make({s.time, s.channels}, dtype) : Tensor();
    };
    add<Embedding>("embedding/forward", [=](CaseTensors& tensors) {
        return Embedding{.tokens = tensors.make_tokens(tokens, s.vocabulary),
                         .token_table = tensors.make({s.vocabulary, s.channels}, compute),
                         .position_table = positions(tensors, compute),
                         .y = tensors.make(y, compute)};
    });
    add<EmbeddingBackward>("embedding/backward", [=](CaseTensors& tensors) {
        return EmbeddingBackward{
            .tokens = tensors.make_tokens(tokens, s.vocabulary),
            .d_y = tensors.make(y, compute),
            .d_token_table = tensors.make({s.vocabulary, s.channels}, DType::f32),
            .d_position_table = positions(tensors, DType::f32)};
    });
}

void CaseMaker::add_loss() {
    const ModelSizes s = sizes_;
    const DType compute = compute_;
    add<CrossEntropy>("cross_entropy", [=](CaseTensors& tensors) {
        const Shape logits = {s.head_rows, s.vocabulary};
        return CrossEntropy{.logits = tensors.make(logits, DType::f32),
                            .targets = tensors.make_tokens({s.head_rows}, s.vocabulary),
                            .vocabulary = s.vocabulary,
                            .scale = 1.0F / static_cast<float>(s.tokens()),
                            .losses = tensors.make({s.head_rows}, DType::f32),
                            .d_logits = tensors.make(logits, compute)};
    });
}

/// On as many elements as the feed-forward part's first matrix has.
void CaseMaker::add_optimizer() {
    const DType compute = compute_;
    const int64_t n = sizes_.channels * sizes_.feed_forward;
    add<AdamW>("adamw", [=](CaseTensors& tensors) {
        return AdamW{
            .gradient = tensors.make({n}, DType::f32),
            .master = tensors.make({n}, DType::f32),
            .first_moment = tensors.make({n}, DType::f32),
            .second_moment = tensors.make_positive({n}, DType::f32),
            .parameter = compute == DType::bf16 ? tensors.make({n}, DType::bf16) : Tensor(),
            .learning_rate = 1e-6F,
            .step = 10};
    });
    add<Accumulate>("accumulate", [=](CaseTensors& tensors) {
        return Accumulate{.sum = tensors.make({n}, DType::f32),
                          .contributions = tensors.list(tensors.make({n}, compute))};
    });
    add<SquaredNorm>("squared_norm", [=](CaseTensors& tensors) {
        const int64_t chunks = (n + kChunkElements - 1) / kChunkElements;
        return SquaredNorm{.x = tensors.make({n}, DType::f32),
                           .partial = tensors.make({chunks}, DType::f64)};
    });
    add<Cast>("cast", [=](CaseTensors& tensors) {
        return Cast{.x = tensors.make({n}, DType::f32), .y = tensors.make({n}, DType::bf16)};
    });
}

/// One new token of one sequence, the context being full.
void CaseMaker::add_generation() {
    const ModelSizes s = sizes_;
    const DType compute = compute_;
    add<CachedAttention>("generate/attention", [=](CaseTensors& tensors) {
        const Shape cache = {1, s.heads.kv_heads, s.time, s.heads.head_size};
        return CachedAttention{
            .heads = s.heads,
            .qkv = tensors.make({1, 1, s.heads.qkv_columns()}, compute),
            .key_cache = tensors.make(cache, compute),
            .value_cache = tensors.make(cache, compute),
            .first_position = s.time - 1,
            .y = tensors.make({1, 1, s.heads.heads * s.heads.head_size}, compute)};
    });
    add<Matmul>("generate/head", [=](CaseTensors& tensors) {
        return Matmul{.a = tensors.make({1, s.channels}, compute),
                      .b = tensors.make({s.vocabulary, s.channels}, compute),
                      .d = tensors.make({1, s.vocabulary}, DType::f32),
                      .transpose_b = true};
    });
}

}  // namespace

bool BenchCase::is_arithmetic() const {
    // A product of one row, or attention of one token, reads each number for one use.
    constexpr double kFewUses = 16.0;
    const bool dense = cost.operation_class == OperationClass::matmul ||
                       cost.operation_class == OperationClass::attention ||
                       cost.operation_class == OperationClass::attention_backward;
    return dense && cost.flops > kFewUses * cost.bytes();
}

std::vector<BenchCase> make_cases(const ModelSizes& sizes, DType compute) {
    CaseMaker maker(sizes, compute);
    maker.add_products();
    maker.add_attention();
    maker.add_norms();
    maker.add_activations();
    maker.add_embedding();
    maker.add_loss();
    maker.add_optimizer();
    maker.add_generation();
    return maker.take();
}

}  // namespace lathe::bench
