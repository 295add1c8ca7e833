#include "train/run.h"

#include <fmt/core.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "data/loader.h"
#include "parallel/recorded_communicator.h"
#include "parallel/shared_failure.h"
#include "train/checkpoint.h"
#include "train/checkpoint_writer.h"
#include "train/device.h"
#include "train/evaluation.h"
#include "train/log.h"
#include "train/matmul_ceiling.h"
#include "train/memory_report.h"
#include "train/metrics.h"
#include "train/offload.h"
#include "train/profile.h"
#include "train/progress.h"
#include "train/run_data.h"
#include "train/run_folder.h"
#include "train/signals.h"
#include "train/step_end.h"
#include "train/trainer.h"
#include "train/utilization.h"

namespace lathe {
namespace fs = std::filesystem;
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The folder, made and locked by rank 0 (null elsewhere); the others wait for it.
std::unique_ptr<RunFolder> open_run_folder(Communicator& world, const RunConfig& config) {
    std::unique_ptr<RunFolder> folder;
    SharedFailure failure(world);
    if (world.rank() == 0) {
        failure.run([&] {
            folder = std::make_unique<RunFolder>(config.train.output, config,
                                                 config.checkpoint.resume == "never");
        });
    }
    failure.agree({.tensor = "the run folder", .step = 0});
    return folder;
}

class TrainingRun {
  public:
    TrainingRun(const RunConfig& config, const RunData& data, Backend& backend, Communicator& world,
                RankPlace place);
    int run();

  private:
    void start();
    void continue_from(const fs::path& checkpoint);
    void resume_from(const fs::path& folder);
    StepMetrics train_step();
    int end_step(int signal, StepMetrics& metrics);
    std::optional<Evaluation> validate_if_due(int64_t step);
    CheckpointSurroundings checkpoint_surroundings();
    void checkpoint(std::optional<double> validation_loss, bool is_last);
    bool checkpoint_due(int64_t step) const;
    void report_skip(const StepResult& result);
    void measure_ceiling();
    void log_place();
    MemorySpread record_memory();
    void finish(int signal);
    std::unique_ptr<Backend> make_measuring_backend() const;
    ProfilePlan profile_plan();
    void tell(const std::string& text);
    bool leads() const { return world_.rank() == 0; }

    const RunConfig& config_;
    const RunData& data_;
    Backend& backend_;
    Communicator& world_;
    RankPlace place_;
    DType compute_;
    Loader loader_;  ///< made before the folder: data too short for a sample leaves nothing behind
    Loader validation_loader_;
    std::unique_ptr<RunFolder> lock_;  ///< rank 0 only
    fs::path folder_;
    std::shared_ptr<spdlog::logger> log_;
    Trainer trainer_;
    Evaluator evaluator_;
    std::optional<MetricsLog> metrics_log_;  ///< rank 0 only, as is the next
    std::optional<Progress> progress_;
    StepEnd last_end_;              ///< this rank's sums up to the last step's end
    CheckpointWriter checkpoints_;  ///< after all that it uses
    Utilization utilization_;
    Profile profile_;
};

TrainingRun::TrainingRun(const RunConfig& config, const RunData& data, Backend& backend,
                         Communicator& world, RankPlace place)
    : config_(config),
      data_(data),
      backend_(backend),
      world_(world),
      place_(std::move(place)),
      compute_(compute_dtype(config.device, backend)),
      loader_(data.train, config.train.sequence_length, static_cast<uint64_t>(config.train.seed)),
      validation_loader_(data.validation, config.train.sequence_length, 0,
                         SampleOrder::kSequential),
      lock_(open_run_folder(world, config)),
      folder_(config.train.output),
      log_(make_run_logger(
          (folder_ / (leads() ? "log.txt" : fmt::format("log-rank-{}.txt", world.rank())))
              .string())),
      trainer_(config, backend, compute_, loader_, world),
      evaluator_(backend, data.tokenizer, config.train.micro_batch, config.train.sequence_length),
      checkpoints_(trainer_, config, checkpoint_surroundings()),
      utilization_(
          training_flops_per_token(config.model, config.train.sequence_length),
          [this] { return matmul_ceiling(*make_measuring_backend(), compute_) * world_.size(); },
          [] {
              return std::chrono::duration<double>(
                         std::chrono::steady_clock::now().time_since_epoch())
                  .count();
          }),
      profile_(backend, profile_plan()) {}

CheckpointSurroundings TrainingRun::checkpoint_surroundings() {
    return {.tokenizer = data_.tokenizer_path,
            .end_of_text = data_.tokenizer.find_end_of_text(),
            .log = log_,
            // A checkpoint never knows more steps than the metrics do.
            .before_completion = [this] { metrics_log_->sync(); },
            .after_completion =
                [this] { prune_checkpoints(folder_, config_.checkpoint.checkpoint_keep); }};
}

void TrainingRun::log_place() {
    log_->info("rank {} of {}: local rank {} of {} on host {}, process {}, on {}", place_.rank,
               place_.size, place_.local_rank, place_.local_size, place_.host, getpid(),
               backend_.device().name);
}

void TrainingRun::tell(const std::string& text) {
    log_->info(text);
    if (leads()) {
        fmt::print("{}\n", text);
        std::fflush(stdout);
    }
}

void TrainingRun::start() {
    const std::string& resume = config_.checkpoint.resume;
    const auto stored = list_checkpoints(folder_);
    if (!stored.empty()) {
        continue_from(stored.back().path);
    } else if (resume != "auto" && resume != "never") {
        resume_from(resolve_model_folder(resume));
    } else {
        trainer_.initialize();
    }
    const ModelConfig& model = config_.model;
    tell(fmt::format(
        "{} parameters ({} layers, {} channels, vocabulary {}) on {} in {}, {} {} x {} threads; "
        "{} training tokens, {} a step",
        trainer_.layout().num_parameters(), model.layers, model.channels, model.vocabulary_size,
        backend_.device().name, name_of(compute_), world_.size(),
        world_.size() == 1 ? "rank" : "ranks", backend_.device().num_threads,
        data_.train.num_tokens(), trainer_.tokens_per_step()));
    if (config_.parallel.offload == Offload::optimizer) {
        tell(offload_text(config_, backend_));
    }
    if (config_.optimizer.warmup_steps > config_.train.steps) {
        tell(
            fmt::format("warmup-steps = {} is more than steps = {}: a trial of the beginning, the "
                        "learning rate stays below its peak",
                        config_.optimizer.warmup_steps, config_.train.steps));
    }
    if (leads()) {
        lock_->write_config(config_);
        metrics_log_.emplace(folder_.string(), trainer_.state().step);
        progress_.emplace(config_.train.steps, trainer_.state().step);
        if (!metrics_log_->resume_warning().empty()) {
            log_->warn(metrics_log_->resume_warning());
        }
    }
}

void TrainingRun::continue_from(const fs::path& checkpoint) {
    const CheckpointState state = verify_checkpoint(checkpoint, world_);
    check_continues(checkpoint, state, config_, data_, compute_);
    load_checkpoint(checkpoint, state, trainer_);
    tell(fmt::format("goes on from {} at step {}", checkpoint.string(), trainer_.state().step));
}

void TrainingRun::resume_from(const fs::path& folder) {
    if (is_checkpoint(folder)) {
        continue_from(folder);
        return;
    }
    load_parameters(folder, trainer_);
    tell(fmt::format("begins with the parameters of {}", folder.string()));
}

/// Of its own, so that its memory is not the run's; all ranks measure at once.
std::unique_ptr<Backend> TrainingRun::make_measuring_backend() const {
    DeviceConfig device = config_.device;
    device.threads = backend_.device().num_threads;
    return make_backend(device, place_);
}

ProfilePlan TrainingRun::profile_plan() {
    return {.steps = config_.train.profile ? config_.train.profile_steps : 0,
            .folder = folder_,
            .rank = world_.rank(),
            .size = world_.size(),
            .place = fmt::format("{} on {}", place_.host, backend_.device().name),
            .flops_per_second = [this] { return utilization_.ceiling() / world_.size(); },
            .bytes_per_second = [this] { return memory_bandwidth(*make_measuring_backend()); },
            .tell =
                [this](const std::string& text) {
                    if (progress_) {
                        progress_->finish();
                    }
                    tell(text);
                }};
}

void TrainingRun::measure_ceiling() {
    const bool again = utilization_.ceiling() > 0.0;
    backend_.release_free_memory();  // the measurement's matrices take its place
    utilization_.measure();
    log_->info("utilization is a fraction of {:.1f} GFLOP/s, what matrix products reach{}",
               utilization_.ceiling() / 1e9, again ? " (measured again: a step was faster)" : "");
}

/// Completes the metrics by what the ranks have spent on communication since the last step's end.
/// Returns the signal that any rank has received, or 0; the same on all ranks.
int TrainingRun::end_step(int signal, StepMetrics& metrics) {
    const StepEnd total = {
        .signal = signal,
        .sent_bytes = world_.sent_bytes(),
        .exposed_communication_s = backend_.exposed_communication_s(),
        .outdone = utilization_.outdone(metrics.tokens_per_second) ? 1 : 0,
    };
    const AgreedStepEnd agreed =
        agree(world_,
              {.signal = signal,
               .sent_bytes = total.sent_bytes - last_end_.sent_bytes,
               .exposed_communication_s =
                   total.exposed_communication_s - last_end_.exposed_communication_s,
               .outdone = total.outdone},
              checkpoints_.message(), metrics.step);
    last_end_ = total;
    metrics.sent_bytes = agreed.largest.sent_bytes;
    metrics.exposed_communication_s = agreed.largest.exposed_communication_s;
    if (agreed.largest.outdone != 0) {
        measure_ceiling();
    }
    metrics.utilization = utilization_.of(metrics.tokens_per_second);
    if (leads()) {
        metrics_log_->write(metrics);
        progress_->update(metrics);
    }
    checkpoints_.poll(agreed.checkpoint);
    return static_cast<int>(agreed.largest.signal);
}

StepMetrics TrainingRun::train_step() {
    const auto start = std::chrono::steady_clock::now();
    const StepResult result = trainer_.step();
    const double tokens_per_second =
        static_cast<double>(trainer_.tokens_per_step()) / seconds_since(start);
    if (result.skipped()) {
        report_skip(result);
    }
    StepMetrics metrics;
    metrics.step = trainer_.state().step;
    metrics.loss = result.loss;
    metrics.learning_rate = result.learning_rate;
    metrics.gradient_norm = result.gradient_norm;
    metrics.tokens = metrics.step * trainer_.tokens_per_step();
    metrics.tokens_per_second = tokens_per_second;
    metrics.skipped = result.skipped();
    return metrics;
}

void TrainingRun::report_skip(const StepResult& result) {
    const TrainState& state = trainer_.state();
    const std::string text =
        fmt::format("step {} skipped: loss {}, gradient norm {}; first bad value in {}", state.step,
                    result.loss, result.gradient_norm, result.bad_tensor);
    if (leads()) {
        log_->warn(text);
    } else {
        log_->info(text);
    }
    if (state.bad_steps >= config_.train.max_bad_steps) {
        checkpoints_.settle();
    }
    LATHE_CHECK(state.bad_steps < config_.train.max_bad_steps,
                "{} steps in a row gave NaN or infinity (the last, step {}, first in {}): lower "
                "--learning-rate, or "
                "look at the data; the last checkpoint is good",
                state.bad_steps, state.step, result.bad_tensor);
}

std::optional<Evaluation> TrainingRun::validate_if_due(int64_t step) {
    const int64_t every = config_.train.validation_every;
    if (step != config_.train.steps && (every == 0 || step % every != 0)) {
        return std::nullopt;
    }
    profile_.begin("validation", step);
    const Evaluation evaluation =
        evaluator_.run(trainer_.model(), trainer_.params(), validation_loader_,
                       config_.train.validation_sequences, world_);
    log_->info("step {}: validation loss {:.4f} nats a token, {:.4f} bits a byte", step,
               evaluation.loss, evaluation.bits_per_byte);
    return evaluation;
}

bool TrainingRun::checkpoint_due(int64_t step) const {
    const int64_t every = config_.checkpoint.checkpoint_every;
    return step == config_.train.steps || (every != 0 && step % every == 0);
}

void TrainingRun::checkpoint(std::optional<double> validation_loss, bool is_last) {
    const TrainState& state = trainer_.state();
    backend_.release_free_memory();  // copied rows take its place
    checkpoints_.begin(checkpoint_path(folder_, state.step),
                       {.train = state,
                        .compute = compute_,
                        .tokenizer_fingerprint = data_.info.tokenizer_fingerprint,
                        .validation_loss = validation_loss});
    if (is_last || !config_.checkpoint.checkpoint_async) {
        checkpoints_.wait();
    }
}

/// The ranks tell each other what memory they needed so far; rank 0 writes it down.
MemorySpread TrainingRun::record_memory() {
    const MemorySpread spread = gather_memory(world_, backend_.memory(), trainer_.state().step);
    if (leads()) {
        write_memory_file(folder_ / "memory.json", spread, config_, compute_,
                          trainer_.state().step);
    }
    return spread;
}

int TrainingRun::run() {
    log_place();
    start();
    const SignalWatch signals;
    while (trainer_.state().step < config_.train.steps) {
        profile_.begin("step", trainer_.state().step + 1);
        StepMetrics metrics = train_step();
        if (const auto evaluation = validate_if_due(metrics.step)) {
            metrics.validation_loss = evaluation->loss;
            metrics.bits_per_byte = evaluation->bits_per_byte;
        }
        profile_.begin("step's end", metrics.step);
        const int signal = end_step(signals.received(), metrics);
        const bool saves = signal != 0 || checkpoint_due(metrics.step);
        if (saves || metrics.validation_loss) {
            const MemorySpread spread = record_memory();
            if (leads()) {
                metrics_log_->write_memory(metrics.step, spread);
            }
        }
        if (saves) {
            profile_.begin("checkpoint", metrics.step);
            checkpoint(metrics.validation_loss, signal != 0 || metrics.step == config_.train.steps);
        }
        if (signal != 0) {
            finish(signal);
            return 128 + signal;
        }
    }
    finish(0);
    return 0;
}

void TrainingRun::finish(int signal) {
    profile_.finish();
    if (progress_) {
        progress_->finish();
    }
    tell(fmt::format(
        "{} at step {} of {}; {}, besides up to {:.1f} MiB to copy a checkpoint's rows; run folder "
        "{}",
        signal == 0 ? "done" : "stopped by a signal after a checkpoint", trainer_.state().step,
        config_.train.steps, memory_text(record_memory()),
        static_cast<double>(checkpoints_.peak_snapshot_bytes()) / 1048576.0, folder_.string()));
}

}  // namespace

int run_training(RunConfig config, Backend& backend, Communicator& world, const RankPlace& place) {
    LATHE_CHECK_USAGE(!config.data.data.empty(),
                      "--data is missing: name a folder made by lathe prepare");
    LATHE_CHECK_USAGE(!config.train.output.empty(),
                      "--output is missing: name a folder for this run");
    const RunData data(config.data.data);
    resolve(config, data.info);
    config.parallel.validate(world.size());
    LATHE_CHECK_USAGE(!config.optimizer.stochastic_rounding ||
                          compute_dtype(config.device, backend) == DType::bf16,
                      "stochastic-rounding = true: only bf16 parameters are rounded, and this run "
                      "computes in f32; "
                      "use --dtype bf16, or leave it out");
    const DType compute = compute_dtype(config.device, backend);
    check_resume(config, data, compute);
    check_offload(config, backend);
    check_ranks_agree(world, config, data, backend, compute);
    if (!config.train.profile || world.size() == 1) {
        return TrainingRun(config, data, backend, world, place).run();
    }
    return TrainingRun(config, data, backend, *make_recorded_communicator(world, backend), place)
        .run();
}

}  // namespace lathe
