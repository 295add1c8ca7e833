#include "plan/dry_run.h"

#include <algorithm>

#include "parallel/single_communicator.h"
#include "plan/dry_communicator.h"
#include "train/checkpoint_files.h"
#include "train/run_fields.h"
#include "train/trainer.h"

namespace lathe {
namespace {

/// So many rounds of micro-batches show what all later ones do. One rank moves the first gradients
/// instead of adding them, so that its third round is the first to begin like all later ones.
int64_t telling_rounds(int ranks) { return ranks == 1 ? 3 : 2; }

/// Made-up tokens, and a note of when each micro-batch begins.
class DrySamples final : public Samples {
  public:
    explicit DrySamples(const DryBackend& backend) : backend_(backend) {}

    void fill(int64_t, int64_t, std::span<int32_t> tokens,
              std::span<int32_t> targets) const override {
        std::fill(tokens.begin(), tokens.end(), 0);
        std::fill(targets.begin(), targets.end(), 0);
        begin_s_ = backend_.now_s();
        begin_totals_ = backend_.totals();
    }

    double begin_s() const { return begin_s_; }
    const WorkTotals& begin_totals() const { return begin_totals_; }

  private:
    const DryBackend& backend_;
    mutable double begin_s_ = 0.0;
    mutable WorkTotals begin_totals_;
};

/// Passes all on to the dry world, and notes when a step's losses have come together: the host then
/// waits, so that nothing is under way.
class StepWatch final : public Communicator {
  public:
    StepWatch(std::unique_ptr<Communicator> world, const DryBackend& backend)
        : world_(std::move(world)), backend_(backend) {}

    int rank() const override { return world_->rank(); }
    int size() const override { return world_->size(); }
    int64_t sent_bytes() const override { return world_->sent_bytes(); }
    void all_to_all(std::span<const Tensor> send, std::span<const Tensor> receive,
                    const CollectiveLabel& label) override {
        world_->all_to_all(send, receive, label);
    }
    void all_gather(std::span<const Tensor> parts, const CollectiveLabel& label) override {
        world_->all_gather(parts, label);
    }
    void all_reduce(const Tensor& tensor, const CollectiveLabel& label) override {
        world_->all_reduce(tensor, label);
    }
    void reduce_scatter(std::span<const Tensor> parts, const CollectiveLabel& label) override {
        world_->reduce_scatter(parts, label);
    }
    void broadcast(const Tensor& tensor, int root, const CollectiveLabel& label) override {
        world_->broadcast(tensor, root, label);
    }
    std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine,
                                                         const CollectiveLabel& label) override {
        const bool losses = label.tensor == "losses";
        if (losses) {
            rounds_end_s = backend_.now_s();
            rounds_end_totals = backend_.totals();
        }
        auto all = world_->all_gather_bytes(mine, label);
        if (losses) {
            gathered_s = backend_.now_s();
            gathered_totals = backend_.totals();
        }
        return all;
    }
    void barrier(const CollectiveLabel& label) override { world_->barrier(label); }
    std::unique_ptr<Communicator> split(int color, int key) override {
        return world_->split(color, key);
    }
    void abort(const std::string& reason, int exit_code) noexcept override {
        world_->abort(reason, exit_code);
    }

    double rounds_end_s = 0.0;
    WorkTotals rounds_end_totals;
    double gathered_s = 0.0;
    WorkTotals gathered_totals;

  private:
    std::unique_ptr<Communicator> world_;
    const DryBackend& backend_;
};

/// Micro-batches that the busiest ranks run.
int64_t rounds_of(const Plan& plan) { return (plan.micro_batches() + plan.ranks - 1) / plan.ranks; }

DryWorld dry_world(const Plan& plan) {
    const Sharding sharding(plan.config.parallel, plan.ranks, plan.rank);
    DryWorld world = {.size = plan.ranks,
                      .rank = plan.rank,
                      .ranks_per_node = plan.resolved_ranks_per_node(),
                      .splits = {},
                      .reply_bytes = rounds_of(plan) * int64_t{sizeof(double)}};  // losses
    // As ProcessGroups splits it.
    if (sharding.num_replicas() > 1) {
        world.splits.emplace_back([sharding](int rank) { return sharding.replica_of(rank); });
    }
    if (sharding.shard_size() > 1) {
        world.splits.emplace_back([sharding](int rank) { return sharding.shard_of(rank); });
    }
    return world;
}

/// What a checkpoint gathers: unit u's rows on rank u mod ranks, which writes them.
void gather_checkpoint(Trainer& trainer, DryBackend& backend, int ranks) {
    ParamStore& params = trainer.params();
    for (int unit = 0; unit < trainer.layout().num_units(); ++unit) {
        backend.label("checkpoint", trainer.layout().units()[static_cast<size_t>(unit)].name);
        params.gather(unit, ParamState::parameters, unit % ranks);
        for (const OptimizerRow& row : optimizer_rows(params)) {
            params.gather(unit, row.state, unit % ranks);
        }
    }
}

/// Peaks of both.
MemoryUsage joined(MemoryUsage usage, const MemoryUsage& before) {
    for (size_t i = 0; i < usage.peak_bytes.size(); ++i) {
        usage.peak_bytes[i] = std::max(usage.peak_bytes[i], before.peak_bytes[i]);
    }
    usage.total_peak_bytes = std::max(usage.total_peak_bytes, before.total_peak_bytes);
    return usage;
}

}  // namespace

void Plan::validate() const {
    LATHE_CHECK_USAGE(ranks >= 1, "--ranks {}: must be at least 1", ranks);
    LATHE_CHECK_USAGE(ranks <= (1 << 20), "--ranks {}: must be at most {}", ranks, 1 << 20);
    LATHE_CHECK_USAGE(rank >= 0 && rank < ranks, "--rank {}: must be from 0 to {}", rank,
                      ranks - 1);
    LATHE_CHECK_USAGE(ranks_per_node >= 0, "--ranks-per-node {}: must be at least 1",
                      ranks_per_node);
    LATHE_CHECK_USAGE(hardware.target == "cpu" || ranks_per_node <= hardware.devices_per_node,
                      "--ranks-per-node {}: a node of {} has {} devices, one for each rank",
                      ranks_per_node, hardware.name, hardware.devices_per_node);
    LATHE_CHECK_USAGE(config.train.global_batch % config.train.micro_batch == 0,
                      "global-batch = {}: must be a multiple of micro-batch = {}",
                      config.train.global_batch, config.train.micro_batch);
    for (const RunField& field : run_fields()) {
        const std::string device = field.key == "device" ? field.get(config) : "\"auto\"";
        LATHE_CHECK_USAGE(device == "\"auto\"" || device == quoted_text(hardware.target),
                          "device = {}: {} is planned for the device {}; leave it out", device,
                          hardware.name, hardware.target);
    }
    config.model.validate();
    config.parallel.validate(ranks);
}

int Plan::resolved_ranks_per_node() const {
    if (ranks_per_node > 0) {
        return ranks_per_node;
    }
    return hardware.target == "cpu" ? ranks : static_cast<int>(hardware.devices_per_node);
}

int Plan::threads() const {
    if (config.device.threads > 0 || hardware.target != "cpu") {
        return static_cast<int>(std::max<int64_t>(1, config.device.threads));
    }
    const int on_node = std::min(ranks, resolved_ranks_per_node());
    return static_cast<int>(std::max<int64_t>(1, hardware.cores / on_node));
}

DType Plan::compute() const {
    switch (config.device.dtype) {
        case ComputeDType::f32:
            return DType::f32;
        case ComputeDType::bf16:
            return DType::bf16;
        case ComputeDType::automatic:
            break;
    }
    return hardware.bf16_flops > hardware.f32_flops ? DType::bf16 : DType::f32;
}

int64_t Plan::micro_batches() const { return config.train.global_batch / config.train.micro_batch; }

int64_t Plan::tokens_per_step() const {
    return config.train.global_batch * config.train.sequence_length;
}

DryRunResult dry_run(const Plan& plan) {
    plan.validate();
    const int threads = plan.threads();
    const int on_node = std::min(plan.ranks, plan.resolved_ranks_per_node());
    const DeviceSpeed speed(plan.hardware, on_node, threads);
    const std::unique_ptr<DryTarget> target = make_dry_target(plan.hardware, threads);
    DryBackend backend(*target, speed,
                       {.threads = threads,
                        .overlap = plan.config.parallel.overlap && plan.ranks > 1,
                        .keep_spans = plan.keep_spans});
    StepWatch world(make_dry_communicator(backend, speed, dry_world(plan)), backend);

    DryRunResult result;
    result.rounds = rounds_of(plan);
    RunConfig config = plan.config;
    config.train.steps = std::max<int64_t>(1, config.train.steps);
    result.simulated_rounds = std::min(result.rounds, telling_rounds(plan.ranks));
    if (result.rounds > result.simulated_rounds) {
        config.train.global_batch = result.simulated_rounds * plan.ranks * config.train.micro_batch;
    }

    const DrySamples samples(backend);
    Trainer trainer(config, backend, plan.compute(), samples, world);
    result.num_parameters = trainer.layout().num_parameters();
    trainer.initialize();
    trainer.step();
    if (result.rounds == 1) {
        // What follows what is known once it has followed twice.
        trainer.step();
    }
    const double before_s = world.gathered_s;
    const WorkTotals before = world.gathered_totals;
    const MemoryUsage first = backend.memory();
    backend.restart_record();
    result.record_start_s = backend.now_s();
    trainer.step();
    const MemoryUsage memory = joined(backend.memory(), first);
    // From the losses of one step to those of the next, and once more the last round for each that
    // was left out.
    const auto left_out = static_cast<double>(result.rounds - result.simulated_rounds);
    result.step_s =
        world.gathered_s - before_s + left_out * (world.rounds_end_s - samples.begin_s());
    result.step = world.gathered_totals - before +
                  (world.rounds_end_totals - samples.begin_totals()) * left_out;
    result.record = backend.dry_record();
    backend.restart_record();
    gather_checkpoint(trainer, backend, plan.ranks);
    result.checkpoint = backend.dry_record();
    result.memory = joined(backend.memory(), memory);
    result.simulated_operations = backend.totals().num_operations;
    return result;
}

}  // namespace lathe
