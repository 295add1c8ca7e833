#include "kernels/bench/cases.h"

#include <algorithm>
#include <cmath>

namespace lathe::bench {
namespace {

/// Makes tensors of small random numbers and keeps them.
class CaseMaker {
  public:
    CaseMaker(Backend& backend, const ModelSizes& sizes, DType compute)
        : backend_(backend),
          workspace_(std::make_shared<Workspace>(backend)),
          sizes_(sizes),
          compute_(compute) {}

    std::vector<BenchCase> take() { return std::move(cases_); }

    void add_products(const std::string& name, int64_t rows, int64_t in, int64_t out) {
        group_ = std::make_shared<Group>();
        const double flops =
            2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out);
        const auto x = make({rows, in}, compute_);
        const auto weight = make({out, in}, compute_);
        const auto y = make({rows, out}, compute_);
        const auto d_weight = make({out, in}, DType::f32);
        add({name + "/forward", flops, 0, {}},
            Matmul{.a = x, .b = weight, .d = y, .transpose_b = true});
        add({name + "/d_input", flops, 0, {}}, Matmul{.a = y, .b = weight, .d = x});
        add({name + "/d_weight", flops, 0, {}},
            Matmul{.a = y, .b = x, .d = d_weight, .transpose_a = true});
    }

    void add_gelu_product(int64_t rows, int64_t in, int64_t out) {
        group_ = std::make_shared<Group>();
        const double flops =
            2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out);
        add({"up_bias_gelu/forward", flops, 0, {}},
            Matmul{.a = make({rows, in}, compute_),
                   .b = make({out, in}, compute_),
                   .d = make({rows, out}, compute_),
                   .transpose_b = true,
                   .bias = make({out}, compute_),
                   .activation = Activation::gelu_tanh,
                   .pre_activation = make({rows, out}, compute_)});
    }

    void add_attention() {
        group_ = std::make_shared<Group>();
        const ModelSizes& s = sizes_;
        const auto qkv = make({s.batch, s.time, s.heads.qkv_columns()}, compute_);
        const auto y = make({s.batch, s.time, s.heads.heads * s.heads.head_size}, compute_);
        const auto statistics = make({s.batch, s.heads.heads, s.time}, DType::f32);
        const auto d_qkv = make({s.batch, s.time, s.heads.qkv_columns()}, compute_);
        // Two products forward, five backward, of which the causal mask leaves half.
        const double product = static_cast<double>(s.tokens() * s.time) *
                               static_cast<double>(s.heads.heads * s.heads.head_size);
        add({"attention/forward", 2 * product, 0, {}},
            Attention{.heads = s.heads, .qkv = qkv, .y = y, .log_sum_exp = statistics});
        add({"attention/backward", 5 * product, 0, {}}, AttentionBackward{.heads = s.heads,
                                                                          .d_y = y,
                                                                          .qkv = qkv,
                                                                          .y = y,
                                                                          .log_sum_exp = statistics,
                                                                          .d_qkv = d_qkv});
    }

    void add_norms() {
        group_ = std::make_shared<Group>();
        const int64_t n = sizes_.tokens();
        const int64_t c = sizes_.channels;
        const auto x = make({n, c}, compute_);
        const auto weight = make({c}, compute_);
        const auto y = make({n, c}, compute_);
        const auto rstd = make({n}, DType::f32);
        const auto d_weight = make({c}, DType::f32);
        add({"rmsnorm/forward", 0, 2 * bytes(x), {}},
            Norm{.kind = NormKind::rmsnorm, .x = x, .weight = weight, .y = y, .rstd = rstd});
        add({"rmsnorm/backward", 0, 4 * bytes(x), {}},
            NormBackward{.kind = NormKind::rmsnorm,
                         .d_y = y,
                         .x = x,
                         .weight = weight,
                         .rstd = rstd,
                         .d_residual = make({n, c}, compute_),
                         .d_x = make({n, c}, compute_),
                         .d_weight = d_weight});
        const auto bias = make({c}, compute_);
        const auto mean = make({n}, DType::f32);
        add({"layernorm/forward", 0, 2 * bytes(x), {}},
            Norm{.x = x, .weight = weight, .bias = bias, .y = y, .mean = mean, .rstd = rstd});
        add({"layernorm/backward", 0, 4 * bytes(x), {}},
            NormBackward{.d_y = y,
                         .x = x,
                         .weight = weight,
                         .mean = mean,
                         .rstd = rstd,
                         .d_residual = make({n, c}, compute_),
                         .d_x = make({n, c}, compute_),
                         .d_weight = d_weight,
                         .d_bias = make({c}, DType::f32)});
    }

    void add_activations() {
        group_ = std::make_shared<Group>();
        const int64_t n = sizes_.tokens();
        const int64_t f = sizes_.feed_forward;
        const auto gate_up = make({n, 2 * f}, compute_);
        const auto y = make({n, f}, compute_);
        add({"swiglu/forward", 0, 3 * bytes(y), {}}, Swiglu{.gate_up = gate_up, .y = y});
        add({"swiglu/backward", 0, 5 * bytes(y), {}},
            SwigluBackward{.d_y = y, .gate_up = gate_up, .d_gate_up = gate_up});
        const auto x = make({n, f}, compute_);
        add({"gelu_tanh/forward", 0, 2 * bytes(y), {}}, Gelu{.x = x, .y = y});
        add({"gelu_tanh/backward", 0, 3 * bytes(y), {}},
            GeluBackward{.d_y = y, .x = x, .d_x = make({n, f}, compute_)});
    }

    void add_loss() {
        group_ = std::make_shared<Group>();
        const int64_t n = sizes_.head_rows;
        const auto logits = make({n, sizes_.vocabulary}, DType::f32);
        const auto d_logits = make({n, sizes_.vocabulary}, compute_);
        add({"cross_entropy", 0, bytes(logits) + bytes(d_logits), {}},
            CrossEntropy{.logits = logits,
                         .targets = make({n}, DType::i32),
                         .vocabulary = sizes_.vocabulary,
                         .losses = make({n}, DType::f32),
                         .d_logits = d_logits});
    }

    void add_optimizer() {
        group_ = std::make_shared<Group>();
        constexpr int64_t kParameters = int64_t{16} << 20;
        const auto gradient = make({kParameters}, DType::f32);
        const auto master = make({kParameters}, DType::f32);
        AdamW op{.gradient = gradient,
                 .master = master,
                 .first_moment = make({kParameters}, DType::f32),
                 .second_moment = make({kParameters}, DType::f32),
                 .learning_rate = 1e-6F,
                 .step = 10};
        double moved = 7 * bytes(master);
        if (compute_ == DType::bf16) {
            op.parameter = make({kParameters}, DType::bf16);
            moved += bytes(op.parameter);
        }
        add({"adamw", 0, moved, {}}, op);
        add({"squared_norm", 0, bytes(gradient), {}},
            SquaredNorm{.x = gradient,
                        .partial = make({kParameters / kChunkElements}, DType::f64)});
    }

    /// One token through one matrix.
    void add_generation(int64_t in, int64_t out) {
        group_ = std::make_shared<Group>();
        const auto weight = make({out, in}, compute_);
        add({"generate/product", 0, bytes(weight), {}}, Matmul{.a = make({1, in}, compute_),
                                                               .b = weight,
                                                               .d = make({1, out}, compute_),
                                                               .transpose_b = true});
    }

  private:
    static double bytes(const Tensor& tensor) { return static_cast<double>(tensor.bytes()); }

    /// Memory of the system's that is touched, and filled, only when a case of the group first
    /// runs.
    struct Group {
        std::vector<Buffer> buffers;
        bool filled = false;
    };

    Tensor make(Shape shape, DType dtype) {
        group_->buffers.push_back(backend_.allocate(shape, dtype, MemoryCategory::activations));
        return group_->buffers.back();
    }

    /// Numbers of both signs around 0.1: periodic, so that filling takes no time.
    static void fill(Backend& backend, const Tensor& tensor) {
        if (tensor.dtype() != DType::f32 && tensor.dtype() != DType::bf16) {
            backend.fill_zero(tensor, Stream::compute);
            return;
        }
        constexpr int64_t kPeriod = 4099;
        for (int64_t i = 0; i < std::min(kPeriod, tensor.size()); ++i) {
            const float value = 0.1F * std::sin(static_cast<float>(i));
            if (tensor.dtype() == DType::f32) {
                tensor.as<float>()[i] = value;
            } else {
                tensor.as<bf16>()[i] = bf16(value);
            }
        }
        const Tensor flat = tensor.flat();
        for (int64_t done = kPeriod; done < flat.size(); done *= 2) {
            const int64_t count = std::min(done, flat.size() - done);
            backend.copy(flat.slice(done, done + count), flat.slice(0, count), Stream::compute);
        }
    }

    template <typename Operation>
    void add(BenchCase bench_case, const Operation& op) {
        bench_case.name = fmt::format("{}/{}/{}", sizes_.name, name_of(compute_), bench_case.name);
        bench_case.run = [op, workspace = workspace_, group = group_] {
            if (!group->filled) {
                for (const Buffer& buffer : group->buffers) {
                    fill(workspace->backend(), buffer);
                }
                group->filled = true;
            }
            workspace->run(op);
        };
        cases_.push_back(std::move(bench_case));
    }

    Backend& backend_;
    std::shared_ptr<Workspace> workspace_;
    ModelSizes sizes_;
    DType compute_;
    std::shared_ptr<Group> group_;  ///< of the cases being added, which share tensors
    std::vector<BenchCase> cases_;
};

}  // namespace

ModelSizes quickstart_sizes() {
    return {.name = "quickstart",
            .batch = 8,
            .time = 256,
            .channels = 288,
            .feed_forward = 768,
            .vocabulary = 4096,
            .heads = {.heads = 6, .kv_heads = 6, .head_size = 48},
            .head_rows = 512};
}

ModelSizes gpt2_124m_sizes() {
    return {.name = "gpt2-124m",
            .batch = 4,
            .time = 1024,
            .channels = 768,
            .feed_forward = 3072,
            .vocabulary = 50304,
            .heads = {.heads = 12, .kv_heads = 12, .head_size = 64},
            .head_rows = 512};
}

std::vector<BenchCase> make_cases(Backend& backend, const ModelSizes& sizes, DType compute) {
    CaseMaker maker(backend, sizes, compute);
    maker.add_products("qkv", sizes.tokens(), sizes.channels, sizes.heads.qkv_columns());
    maker.add_products("projection", sizes.tokens(), sizes.channels, sizes.channels);
    maker.add_products("up", sizes.tokens(), sizes.channels, sizes.feed_forward);
    maker.add_products("down", sizes.tokens(), sizes.feed_forward, sizes.channels);
    maker.add_products("head", sizes.head_rows, sizes.channels, sizes.vocabulary);
    maker.add_gelu_product(sizes.tokens(), sizes.channels, sizes.feed_forward);
    maker.add_attention();
    maker.add_norms();
    maker.add_activations();
    maker.add_loss();
    maker.add_optimizer();
    maker.add_generation(sizes.channels, sizes.vocabulary);
    return maker.take();
}

}  // namespace lathe::bench
