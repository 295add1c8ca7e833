// RunConfig: everything that decides a training run, as plain structs with defaults. One table of
// fields (run_fields) serves the command line, the TOML file, the dump into the run folder and the
// checkpoint.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "model/config.h"
#include "model/transformer.h"
#include "parallel/parallel_config.h"

namespace lathe {

enum class DeviceKind { automatic, reference, cpu, cuda };
enum class ComputeDType { automatic, f32, bf16 };
enum class ScheduleKind { constant, cosine, linear, warmup_stable_decay };

struct DataConfig {
    std::string data;  ///< folder written by `lathe prepare`
};

struct OptimizerConfig {
    double learning_rate = 1e-3;  ///< the peak
    ScheduleKind schedule = ScheduleKind::cosine;
    int64_t warmup_steps = 0;          ///< may exceed the steps: a trial of a long run's beginning
    double final_learning_rate = 0.1;  ///< at the last step, as a fraction of the peak
    double decay_fraction = 0.2;       ///< of the steps, for warmup_stable_decay
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0.1;         ///< of matrices and tables; norms and biases take none
    double gradient_clip = 1.0;        ///< largest global gradient norm; 0: no clipping
    bool stochastic_rounding = false;  ///< of bf16 parameters
};

struct TrainConfig {
    std::string output;  ///< run folder
    int64_t steps = 0;
    int64_t sequence_length = 0;  ///< T; 0: the model's
    int64_t micro_batch = 8;      ///< sequences in one forward and backward
    int64_t global_batch = 8;     ///< sequences in one step, a multiple of micro_batch
    int64_t seed = 1;
    Recompute recompute = Recompute::none;
    int64_t max_bad_steps = 10;         ///< so many steps in a row with NaN or infinity end the run
    int64_t validation_every = 100;     ///< steps; 0: at the end only
    int64_t validation_sequences = 64;  ///< at most so many of the validation split; 0: all
    bool profile = false;               ///< record where the time of some steps goes
    int64_t profile_steps = 3;          ///< from the third of this process on
};

struct CheckpointConfig {
    int64_t checkpoint_every = 500;  ///< steps; 0: at the end (and on a signal) only
    int64_t checkpoint_keep =
        2;  ///< newest checkpoints kept; the best by validation loss is kept besides
    bool checkpoint_async = false;  ///< train on while a copy of the rows is written
    std::string resume = "auto";    ///< auto, never, or a checkpoint's path
};

struct DeviceConfig {
    DeviceKind device = DeviceKind::automatic;
    ComputeDType dtype = ComputeDType::automatic;
    MatmulLibrary matmul = MatmulLibrary::native;  ///< of the device cuda
    int64_t threads = 0;                           ///< 0: all that the process may use
};

struct RunConfig {
    std::string preset;  ///< the model's starting point; the fields of `model` are already resolved
    ModelConfig model;
    DataConfig data;
    OptimizerConfig optimizer;
    TrainConfig train;
    CheckpointConfig checkpoint;
    ParallelConfig parallel;
    DeviceConfig device;

    /// Throws UsageError "key = value: what would be right", also when steps is 0. The model's
    /// vocabulary may still be 0: it defaults to the tokenizer's.
    void validate() const;
};

/// What a field's value is; a choice (one of a few names) is `text` with `choices`.
enum class FieldKind { integer, real, boolean, text };

/// One row of the table: key "micro-batch" in the section [train] of the file is --micro-batch on
/// the command line.
struct RunField {
    std::string section;
    std::string key;
    std::string help;  ///< one line, units included
    FieldKind kind = FieldKind::text;
    std::vector<std::string> choices;  ///< all that a choice may be; else empty
    std::string default_text;
    /// Parses the whole of `text` into the field; throws UsageError "ORIGIN: what would be right"
    /// (`origin` is "--micro-batch 0" or "FILE:12: micro-batch = 0").
    std::function<void(RunConfig& config, const std::string& text, const std::string& origin)> set;
    /// The value as TOML; reads back to the same bits.
    std::function<std::string(const RunConfig& config)> get;
    /// What is wrong with the value by itself; empty when nothing is.
    std::function<std::string(const RunConfig& config)> complaint;
};
const std::vector<RunField>& run_fields();

/// Key and value of each option given on the command line.
using RunOverrides = std::vector<std::pair<std::string, std::string>>;

/// Defaults, then the preset (from whichever of the two names one), then the file, then the command
/// line. What is not given follows what is: without a preset, kv-heads follows heads and
/// context-length follows sequence-length; sequence-length follows context-length; a preset's
/// vocabulary is dropped for the tokenizer's. Throws UsageError for an unreadable file, wrong
/// syntax (FILE:line), an unknown key (with the nearest right one), a key in a wrong section, a
/// value of a wrong type or range.
RunConfig load_run_config(const std::optional<std::string>& file, const RunOverrides& overrides);

/// The whole configuration as TOML that load_run_config reads back to an equal configuration.
std::string to_toml(const RunConfig& config);

}  // namespace lathe
