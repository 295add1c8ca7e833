#include "plan/calibration.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/backend.h"
#include "train/device.h"
#include "train/matmul_ceiling.h"

namespace lathe {
namespace {

/// Tokens of one micro-batch, so to speak: rows of the measured operations.
constexpr int64_t kRows = 2048;
constexpr int64_t kHeadSize = 64;
constexpr double kBudget_s = 0.04;
constexpr int kFewestRuns = 3;

class Calibration {
  public:
    Calibration(Backend& backend, DType compute, Hardware& hardware)
        : backend_(backend), workspace_(backend), compute_(compute), hardware_(hardware) {}

    void run() {
        products();
        attention();
        rows();
        losses();
        embeddings();
        optimizer();
    }

  private:
    using Points = std::vector<std::pair<double, double>>;

    /// Of varied numbers: a processor may clock higher on zeros than on what training gives it.
    Tensor tensor(Shape shape, DType dtype) {
        std::vector<float> values(static_cast<size_t>(shape.size()));
        for (size_t i = 0; i < values.size(); ++i) {
            values[i] =
                static_cast<float>(static_cast<uint32_t>(i) * 2654435769U) * 0x1p-32F - 0.5F;
        }
        Buffer exact = backend_.allocate(shape, DType::f32, MemoryCategory::workspace);
        backend_.copy_from_host(exact, values.data());
        if (dtype != DType::f32) {
            Buffer rounded = backend_.allocate(shape, dtype, MemoryCategory::workspace);
            workspace_.run(Cast{.x = exact, .y = rounded});
            exact = std::move(rounded);
        }
        buffers_.push_back(std::move(exact));
        return buffers_.back();
    }
    /// i32, from 0 to `limit` - 1.
    Tensor indices(int64_t count, int64_t limit) {
        std::vector<int32_t> values(static_cast<size_t>(count));
        for (size_t i = 0; i < values.size(); ++i) {
            values[i] = static_cast<int32_t>(static_cast<int64_t>(i) * 7919 % limit);
        }
        buffers_.push_back(backend_.allocate({1, count}, DType::i32, MemoryCategory::workspace));
        backend_.copy_from_host(buffers_.back(), values.data());
        return buffers_.back();
    }
    Tensor activation(Shape shape) { return tensor(shape, compute_); }
    Tensor statistic(Shape shape) { return tensor(shape, DType::f32); }

    /// The median time of runs that fill the budget, after one that is not counted.
    template <typename Operation>
    double seconds(const Operation& op) {
        using Clock = std::chrono::steady_clock;
        std::vector<double> times;
        double spent = 0.0;
        workspace_.run(op);
        while (spent < kBudget_s || static_cast<int>(times.size()) < kFewestRuns) {
            const auto start = Clock::now();
            workspace_.run(op);
            times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
            spent += times.back();
        }
        std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2),
                         times.end());
        return times[times.size() / 2];
    }

    /// The share of its peak that the operations reach together.
    template <typename... Operations>
    std::pair<double, double> reached(const Operations&... ops) {
        double spent = 0.0;
        double needed = 0.0;
        double extent = 0.0;
        const auto add = [&](const auto& op) {
            const OperationCost cost = cost_of(op);
            const bool by_flops = cost.operation_class == OperationClass::matmul ||
                                  cost.operation_class == OperationClass::attention ||
                                  cost.operation_class == OperationClass::attention_backward;
            const double peak =
                cost.dtype == DType::bf16 ? hardware_.bf16_flops : hardware_.f32_flops;
            spent += seconds(op);
            needed +=
                by_flops ? cost.flops / peak : cost.bytes() / hardware_.memory_bytes_per_second;
            extent = static_cast<double>(cost.extent);
        };
        (add(ops), ...);
        return {extent, needed / spent};
    }

    void set(OperationClass operation_class, Points points) {
        hardware_.fractions[static_cast<size_t>(operation_class)] =
            AchievableFraction(std::move(points));
    }

    /// The three products of a linear layer of `width` to 4 width.
    void products() {
        Points points;
        for (const int64_t width : {64, 256, 512, 768, 1536}) {
            const Tensor x = activation({kRows, width});
            const Tensor weight = activation({4 * width, width});
            const Tensor y = activation({kRows, 4 * width});
            const Tensor d_weight = statistic({4 * width, width});
            points.push_back(reached(Matmul{.a = x, .b = weight, .d = y, .transpose_b = true},
                                     Matmul{.a = y, .b = weight, .d = x},
                                     Matmul{.a = y, .b = x, .d = d_weight, .transpose_a = true}));
            buffers_.clear();
        }
        set(OperationClass::matmul, std::move(points));
    }

    void attention() {
        Points forward;
        Points backward;
        for (const int64_t time : {256, 1024, 2048}) {
            const int64_t batch = kRows / time;
            const AttentionHeads heads = {.heads = 8, .kv_heads = 8, .head_size = kHeadSize};
            const Tensor qkv = activation({batch, time, heads.qkv_columns()});
            const Tensor y = activation({batch, time, 8 * kHeadSize});
            const Tensor log_sum_exp = statistic({batch, 8, time});
            const Tensor d_y = activation({batch, time, 8 * kHeadSize});
            const Tensor d_qkv = activation({batch, time, heads.qkv_columns()});
            forward.push_back(
                reached(Attention{.heads = heads, .qkv = qkv, .y = y, .log_sum_exp = log_sum_exp}));
            backward.push_back(reached(AttentionBackward{.heads = heads,
                                                         .d_y = d_y,
                                                         .qkv = qkv,
                                                         .y = y,
                                                         .log_sum_exp = log_sum_exp,
                                                         .d_qkv = d_qkv}));
            buffers_.clear();
        }
        set(OperationClass::attention, std::move(forward));
        set(OperationClass::attention_backward, std::move(backward));
    }

    /// What walks through activations: in a cache, and beyond any.
    void rows() {
        Points norm;
        Points activations;
        Points rotary;
        Points sums;
        Points copies;
        for (const int64_t width : {256, 1024, 4096}) {
            const Tensor x = activation({kRows, width});
            const Tensor y = activation({kRows, width});
            const Tensor weight = activation({width});
            const Tensor rstd = statistic({kRows});
            const Tensor wide = statistic({kRows, width});
            const Tensor d_weight = statistic({width});
            norm.push_back(reached(
                Norm{.kind = NormKind::rmsnorm, .x = x, .weight = weight, .y = y, .rstd = rstd},
                NormBackward{.kind = NormKind::rmsnorm,
                             .d_y = y,
                             .x = x,
                             .weight = weight,
                             .rstd = rstd,
                             .d_x = y,
                             .d_weight = d_weight}));
            activations.push_back(
                reached(Gelu{.x = x, .y = y}, GeluBackward{.d_y = y, .x = x, .d_x = y}));
            sums.push_back(reached(BiasBackward{.d_y = x, .d_bias = d_weight}));
            copies.push_back(reached(Cast{.x = wide, .y = y}));
            const AttentionHeads heads = {
                .heads = width / kHeadSize, .kv_heads = width / kHeadSize, .head_size = kHeadSize};
            const Tensor qkv = activation({1, kRows, heads.qkv_columns()});
            const Tensor table = statistic({kRows, kHeadSize});
            rotary.push_back(reached(Rotary{.heads = heads, .qkv = qkv, .table = table}));
            buffers_.clear();
        }
        set(OperationClass::norm, std::move(norm));
        set(OperationClass::activation, std::move(activations));
        set(OperationClass::rotary, std::move(rotary));
        set(OperationClass::sum, std::move(sums));
        set(OperationClass::copy, std::move(copies));
    }

    void losses() {
        Points points;
        for (const int64_t vocabulary : {4096, 32000}) {
            const Tensor logits = statistic({512, vocabulary});
            const Tensor d_logits =
                compute_ == DType::bf16 ? activation({512, vocabulary}) : logits;
            const Tensor targets = indices(512, vocabulary);
            const Tensor losses = statistic({512});
            points.push_back(reached(CrossEntropy{.logits = logits,
                                                  .targets = targets,
                                                  .vocabulary = vocabulary,
                                                  .losses = losses,
                                                  .d_logits = d_logits}));
            buffers_.clear();
        }
        set(OperationClass::cross_entropy, std::move(points));
    }

    void embeddings() {
        constexpr int64_t kVocabulary = 16384;
        constexpr int64_t kWidth = 512;
        const Tensor tokens = indices(kRows, kVocabulary);
        const Tensor y = activation({1, kRows, kWidth});
        const Tensor table = activation({kVocabulary, kWidth});
        const Tensor d_table = statistic({kVocabulary, kWidth});
        set(OperationClass::embedding,
            {reached(Embedding{.tokens = tokens, .token_table = table, .y = y},
                     EmbeddingBackward{.tokens = tokens, .d_y = y, .d_token_table = d_table})});
        buffers_.clear();
    }

    void optimizer() {
        Points points;
        for (const int64_t elements : {int64_t{1} << 18, int64_t{1} << 22}) {
            const Tensor parameter = compute_ == DType::bf16 ? activation({elements}) : Tensor();
            points.push_back(reached(AdamW{.gradient = statistic({elements}),
                                           .master = statistic({elements}),
                                           .first_moment = statistic({elements}),
                                           .second_moment = statistic({elements}),
                                           .parameter = parameter,
                                           .learning_rate = 1e-3F}));
            buffers_.clear();
        }
        set(OperationClass::optimizer, std::move(points));
    }

    Backend& backend_;
    Workspace workspace_;
    DType compute_;
    Hardware& hardware_;
    std::vector<Buffer> buffers_;
};

}  // namespace

Hardware measure_this_cpu(int threads, DType compute) {
    DeviceConfig device;
    device.device = DeviceKind::cpu;
    device.threads = threads;
    const std::unique_ptr<Backend> backend = make_backend(device);
    Hardware hardware;
    hardware.name = backend->device().name;
    hardware.target = "cpu";
    hardware.cores = backend->device().num_threads;
    hardware.memory_bytes =
        static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<int64_t>(sysconf(_SC_PAGESIZE));
    hardware.f32_flops = matmul_ceiling(*backend, DType::f32);
    hardware.bf16_flops = matmul_ceiling(*backend, DType::bf16);
    hardware.memory_bytes_per_second = memory_bandwidth(*backend);
    // OpenMP's fork and join.
    hardware.least_operation_s = 2e-6;
    // A message between processes is copied in and out of shared memory, by one thread.
    hardware.within_node = {.bytes_per_second = hardware.memory_bytes_per_second / 4.0,
                            .latency_s = 5e-6};
    hardware.between_nodes = {.bytes_per_second = 0.118e9, .latency_s = 50e-6};
    hardware.host = {.bytes_per_second = hardware.memory_bytes_per_second / 4.0,
                     .latency_s = 10e-6};
    Calibration(*backend, compute, hardware).run();
    return hardware;
}

}  // namespace lathe
