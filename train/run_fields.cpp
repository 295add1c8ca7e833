#include "train/run_fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "train/run_config.h"
#include "train/run_fields_value.h"

namespace lathe {

std::string real_text(double value) {
    std::string text = fmt::format("{}", value);
    if (text.find_first_not_of("-0123456789") == std::string::npos) {
        text += ".0";
    }
    return text;
}

std::string quoted_text(const std::string& text) {
    std::string quoted;
    try {
        // JSON's escapes are all valid in TOML, which only wants DEL escaped as well.
        quoted = nlohmann::json(text).dump();
    } catch (const nlohmann::json::type_error&) {
        fail_usage("must be valid UTF-8");
    }
    for (size_t i = 0; (i = quoted.find('\x7f', i)) != std::string::npos;) {
        quoted.replace(i, 1, "\\u007F");
    }
    return quoted;
}

std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates) {
    const size_t tolerated = std::max<size_t>(1, word.size() / 3);
    size_t best = tolerated + 1;
    std::string nearest;
    for (const std::string& candidate : candidates) {
        // distance[i][j] between the first i letters of word and the first j of candidate.
        std::vector<std::vector<size_t>> distance(word.size() + 1,
                                                  std::vector<size_t>(candidate.size() + 1));
        for (size_t i = 0; i <= word.size(); ++i) {
            for (size_t j = 0; j <= candidate.size(); ++j) {
                if (i == 0 || j == 0) {
                    distance[i][j] = i + j;
                    continue;
                }
                const size_t replaced =
                    distance[i - 1][j - 1] + (word[i - 1] == candidate[j - 1] ? 0 : 1);
                distance[i][j] =
                    std::min({distance[i - 1][j] + 1, distance[i][j - 1] + 1, replaced});
                if (i > 1 && j > 1 && word[i - 1] == candidate[j - 2] &&
                    word[i - 2] == candidate[j - 1]) {
                    distance[i][j] = std::min(distance[i][j], distance[i - 2][j - 2] + 1);
                }
            }
        }
        if (distance[word.size()][candidate.size()] < best) {
            best = distance[word.size()][candidate.size()];
            nearest = candidate;
        }
    }
    return nearest;
}

namespace {

/// A field reached by `access`, a function from RunConfig to a reference.
template <typename Access>
RunField make_field(std::string section, std::string key, std::string help, Access access,
                    FieldRange range = {}) {
    using T = std::remove_reference_t<decltype(access(std::declval<RunConfig&>()))>;
    const RunConfig defaults;
    return {
        .section = std::move(section),
        .key = std::move(key),
        .help = std::move(help),
        .kind = Value<T>::kKind,
        .choices = Value<T>::choices(),
        .default_text = Value<T>::text(access(defaults)),
        .set =
            [access, range](RunConfig& config, const std::string& text, const std::string& origin) {
                T value{};
                LATHE_CHECK_USAGE(Value<T>::parse(text, value), "{}: {}", origin,
                                  Value<T>::expectation());
                const std::string complaint = Value<T>::complaint(value, range);
                LATHE_CHECK_USAGE(complaint.empty(), "{}: {}", origin, complaint);
                access(config) = value;
            },
        .get = [access](const RunConfig& config) { return Value<T>::toml(access(config)); },
        .complaint =
            [access, range](const RunConfig& config) {
                return Value<T>::complaint(access(config), range);
            }};
}

/// The fields of one section, which is one struct of RunConfig.
template <typename Section>
class SectionFields {
  public:
    SectionFields(std::vector<RunField>& fields, std::string name, Section RunConfig::*section)
        : fields_(fields), name_(std::move(name)), section_(section) {}

    template <typename T>
    void add(const char* key, T Section::*member, const char* help, FieldRange range = {}) {
        fields_.push_back(make_field(
            name_, key, help, [ section = section_,
                                member ](auto& config) -> auto& { return config.*section.*member; },
            range));
    }

  private:
    std::vector<RunField>& fields_;
    std::string name_;
    Section RunConfig::*section_;
};

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr FieldRange kCount = {.low = 1, .high = kMaxCount, .text = "must be from 1 to 2147483647"};
constexpr FieldRange kCountOrZero = {
    .low = 0, .high = kMaxCount, .text = "must be from 0 to 2147483647"};
constexpr FieldRange kNotNegative = {.low = 0, .text = "must be at least 0"};
constexpr FieldRange kPositive = {
    .low = 0, .high = kInfinity, .without_low = true, .text = "must be greater than 0"};
constexpr FieldRange kStage = {.low = 0, .high = 3, .text = "must be 0, 1, 2 or 3"};
constexpr FieldRange kFraction = {.low = 0, .high = 1, .text = "must be from 0 to 1"};
constexpr FieldRange kDecayFraction = {
    .low = 0, .high = 1, .without_low = true, .text = "must be greater than 0 and at most 1"};
constexpr FieldRange kBeta = {
    .low = 0, .high = 1, .without_high = true, .text = "must be at least 0 and less than 1"};

void add_model_fields(std::vector<RunField>& fields) {
    fields.push_back(make_field(
        "model", "preset",
        fmt::format("named shape that the other model options start from: {}",
                    fmt::join(preset_names(), ", ")),
        [](auto& config) -> auto& { return config.preset; }));
    SectionFields model(fields, "model", &RunConfig::model);
    model.add("vocabulary-size", &ModelConfig::vocabulary_size, "tokens; 0: the tokenizer's",
              kCountOrZero);
    model.add("context-length", &ModelConfig::sequence_length,
              "longest context in tokens; follows sequence-length when there is no preset", kCount);
    model.add("layers", &ModelConfig::layers, "blocks", kCount);
    model.add("channels", &ModelConfig::channels, "width of the residual stream", kCount);
    model.add("heads", &ModelConfig::heads, "query heads", kCount);
    model.add("kv-heads", &ModelConfig::kv_heads,
              "key/value heads; follows heads when there is no preset", kCount);
    model.add("feed-forward", &ModelConfig::feed_forward, "inner width of the MLP", kCount);
    model.add("norm", &ModelConfig::norm, "normalisation");
    model.add("norm-epsilon", &ModelConfig::norm_epsilon, "added to the variance", kPositive);
    model.add("positions", &ModelConfig::positions, "how positions enter");
    model.add("rotary-theta", &ModelConfig::rotary_theta, "base of the rotary wavelengths",
              kPositive);
    model.add("mlp", &ModelConfig::mlp, "activation of the MLP");
    model.add("biases", &ModelConfig::biases, "which linear layers have a bias");
    model.add("embedding-norm", &ModelConfig::embedding_norm, "a norm right after the embedding");
    model.add("tied-embeddings", &ModelConfig::tied_embeddings,
              "the output head is the token table");
    model.add("init-rule", &ModelConfig::init_rule,
              "scaled-residual: smaller initial weights for what writes to the residual stream");
    model.add("init-std", &ModelConfig::init_std, "standard deviation of the initial weights",
              kPositive);
}

void add_optimizer_fields(std::vector<RunField>& fields) {
    SectionFields optimizer(fields, "optimizer", &RunConfig::optimizer);
    optimizer.add("learning-rate", &OptimizerConfig::learning_rate, "the peak", kPositive);
    optimizer.add("schedule", &OptimizerConfig::schedule, "shape of the learning rate over steps");
    optimizer.add("warmup-steps", &OptimizerConfig::warmup_steps, "steps of linear rise",
                  kCountOrZero);
    optimizer.add("final-learning-rate", &OptimizerConfig::final_learning_rate,
                  "at the last step, as a fraction of the peak", kFraction);
    optimizer.add("decay-fraction", &OptimizerConfig::decay_fraction,
                  "last part of the steps in which warmup-stable-decay decays", kDecayFraction);
    optimizer.add("beta1", &OptimizerConfig::beta1, "AdamW's decay of the first moment", kBeta);
    optimizer.add("beta2", &OptimizerConfig::beta2, "AdamW's decay of the second moment", kBeta);
    optimizer.add("epsilon", &OptimizerConfig::epsilon, "AdamW's epsilon", kPositive);
    optimizer.add("weight-decay", &OptimizerConfig::weight_decay,
                  "of matrices and tables; norms and biases take none", kNotNegative);
    optimizer.add("gradient-clip", &OptimizerConfig::gradient_clip,
                  "largest global gradient norm; 0: no clipping", kNotNegative);
    optimizer.add("stochastic-rounding", &OptimizerConfig::stochastic_rounding,
                  "round bf16 parameters stochastically");
}

void add_train_fields(std::vector<RunField>& fields) {
    SectionFields train(fields, "train", &RunConfig::train);
    train.add("output", &TrainConfig::output, "run folder");
    train.add("steps", &TrainConfig::steps, "optimizer steps; must be given to train",
              kCountOrZero);
    train.add("sequence-length", &TrainConfig::sequence_length,
              "tokens of a sequence; 0: the model's context-length", kCountOrZero);
    train.add("micro-batch", &TrainConfig::micro_batch, "sequences in one forward and backward",
              kCount);
    train.add("global-batch", &TrainConfig::global_batch,
              "sequences in one step, a multiple of micro-batch", kCount);
    train.add("seed", &TrainConfig::seed, "of the initial weights and the data order",
              kNotNegative);
    train.add("recompute", &TrainConfig::recompute,
              "what the backward computes again to save memory");
    train.add("max-bad-steps", &TrainConfig::max_bad_steps,
              "steps in a row with NaN or infinity that end the run", kCount);
    train.add("validation-every", &TrainConfig::validation_every, "steps; 0: at the end only",
              kCountOrZero);
    train.add("validation-sequences", &TrainConfig::validation_sequences,
              "at most so many of the validation split; 0: all", kCountOrZero);
    train.add("profile", &TrainConfig::profile,
              "record where the time goes: profile.rank0.json (a Chrome trace), and a table");
    train.add("profile-steps", &TrainConfig::profile_steps,
              "steps to record, from this process's third on", kCount);
}

void add_parallel_fields(std::vector<RunField>& fields) {
    SectionFields parallel(fields, "parallel", &RunConfig::parallel);
    parallel.add("zero-stage", &ParallelConfig::zero_stage,
                 "0: nothing is sharded; 1, 2: optimizer state; 3: parameters too", kStage);
    parallel.add("shard-size", &ParallelConfig::shard_size,
                 "ranks that share one copy; 0: all of them", kCountOrZero);
    parallel.add("reduction", &ParallelConfig::reduction,
                 "how gradients are summed over ranks; ordered: equal bits for any layout");
    parallel.add("gradient-dtype", &ParallelConfig::gradient_dtype,
                 "type to which a micro-batch's gradient is rounded before it is summed");
    parallel.add("bucket-elements", &ParallelConfig::bucket_elements, "gradients exchanged at once",
                 kCount);
    parallel.add("prefetch", &ParallelConfig::prefetch,
                 "stage 3: gather the next unit's parameters while this one computes");
    parallel.add("overlap", &ParallelConfig::overlap,
                 "exchange gradients and parameters while computing");
    parallel.add("offload", &ParallelConfig::offload,
                 "optimizer: master weights and moments live outside the device's memory, on the "
                 "CPU in a file");
    parallel.add("offload-folder", &ParallelConfig::offload_folder,
                 "where that file is, best on a fast disk; by default the run folder");
    parallel.add("collective-timeout", &ParallelConfig::collective_timeout,
                 "seconds that a rank waits for the others", kPositive);
}

std::vector<RunField> make_run_fields() {
    std::vector<RunField> fields;
    SectionFields data(fields, "data", &RunConfig::data);
    data.add("data", &DataConfig::data, "folder written by `lathe prepare`");
    add_train_fields(fields);
    add_model_fields(fields);
    add_optimizer_fields(fields);
    SectionFields checkpoint(fields, "checkpoint", &RunConfig::checkpoint);
    checkpoint.add("checkpoint-every", &CheckpointConfig::checkpoint_every,
                   "steps; 0: at the end (and on a signal) only", kCountOrZero);
    checkpoint.add("checkpoint-keep", &CheckpointConfig::checkpoint_keep,
                   "newest checkpoints kept; the best by validation loss is kept besides", kCount);
    checkpoint.add("checkpoint-async", &CheckpointConfig::checkpoint_async,
                   "train on while a copy of the parameters and optimizer state is written");
    checkpoint.add("resume", &CheckpointConfig::resume, "auto, never, or a checkpoint's path");
    add_parallel_fields(fields);
    SectionFields device(fields, "device", &RunConfig::device);
    device.add("device", &DeviceConfig::device,
               "where to compute; auto: on a GPU where one can be used, else cpu");
    device.add("dtype", &DeviceConfig::dtype, "compute type; auto: bf16 where it is faster");
    device.add("matmul", &DeviceConfig::matmul,
               "whose matrix products on a GPU: Lathe's own, or cuBLASLt");
    device.add("threads", &DeviceConfig::threads, "0: all that the process may use", kCountOrZero);
    return fields;
}

}  // namespace

const std::vector<RunField>& run_fields() {
    static const std::vector<RunField> fields = make_run_fields();
    return fields;
}

}  // namespace lathe
