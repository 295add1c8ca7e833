#include "train/run_config.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <set>

#include "kernels/files.h"
#include "tests/support/temporary_folder.h"
#include "train/run_fields.h"

namespace lathe {
namespace {

/// A configuration file in a folder of its own.
class ConfigFile {
  public:
    explicit ConfigFile(const std::string& text) { write_file(path(), text); }

    std::string path() const { return folder_.file("run.toml"); }
    std::string folder() const { return folder_.path(); }

  private:
    TemporaryFolder folder_;
};

RunConfig load_text(const std::string& text, const RunOverrides& overrides = {}) {
    const ConfigFile file(text);
    return load_run_config(file.path(), overrides);
}

/// The error's text, with the file's name written FILE.
std::string error_of(const std::string& text, const RunOverrides& overrides = {}) {
    const ConfigFile file(text);
    try {
        load_run_config(file.path(), overrides);
    } catch (const UsageError& error) {
        std::string message = error.what();
        if (message.starts_with(file.path())) {
            message.replace(0, file.path().size(), "FILE");
        }
        EXPECT_EQ(message.find('\n'), std::string::npos) << message;
        return message;
    }
    return "no error";
}

std::string error_of_options(RunOverrides overrides) {
    overrides.insert(overrides.begin(), {"steps", "10"});
    try {
        load_run_config(std::nullopt, overrides);
    } catch (const UsageError& error) {
        return error.what();
    }
    return "no error";
}

TEST(RunConfig, EmptyFileGivesTheDefaults) {
    const RunConfig config = load_text("", {{"steps", "7"}});
    EXPECT_EQ(config.train.steps, 7);
    EXPECT_EQ(config.model, ModelConfig());
    EXPECT_EQ(config.train.sequence_length, ModelConfig().sequence_length);
}

TEST(RunConfig, CommandLineWinsOverFileAndFileOverPreset) {
    const RunConfig config = load_text(
        "[model]\npreset = 'gpt2-124m'\nlayers = 3\nheads = 6\nkv-heads = 6\n[train]\nsteps = 5\n"
        "micro-batch = 2\nglobal-batch = 4\n",
        {{"layers", "2"}, {"micro-batch", "4"}, {"micro-batch", "1"}});
    EXPECT_EQ(config.preset, "gpt2-124m");
    EXPECT_EQ(config.model.layers, 2);
    EXPECT_EQ(config.model.heads, 6);
    EXPECT_EQ(config.model.channels, 768);
    EXPECT_EQ(config.model.positions, Positions::learned);
    EXPECT_EQ(config.train.micro_batch, 1);
    EXPECT_EQ(config.train.global_batch, 4);
}

TEST(RunConfig, PresetOfTheCommandLineReplacesTheFilesButKeepsItsOtherFields) {
    const RunConfig config = load_text("[model]\npreset = 'gpt2-124m'\nlayers = 3\n",
                                       {{"steps", "1"}, {"preset", "llama-15m"}});
    EXPECT_EQ(config.preset, "llama-15m");
    EXPECT_EQ(config.model.channels, preset("llama-15m").channels);
    EXPECT_EQ(config.model.layers, 3);
}

TEST(RunConfig, PresetsVocabularyGivesWayToTheTokenizers) {
    EXPECT_EQ(load_text("", {{"steps", "1"}, {"preset", "gpt2-124m"}}).model.vocabulary_size, 0);
    const RunConfig config =
        load_text("", {{"steps", "1"}, {"preset", "gpt2-124m"}, {"vocabulary-size", "50257"}});
    EXPECT_EQ(config.model.vocabulary_size, 50257);
}

TEST(RunConfig, WhatIsNotGivenFollowsWhatIs) {
    RunConfig config =
        load_text("[train]\nsteps = 1\nsequence-length = 77\n[model]\nheads = 4\nchannels = 64\n");
    EXPECT_EQ(config.model.sequence_length, 77);
    EXPECT_EQ(config.model.kv_heads, 4);
    config = load_text(
        "[train]\nsteps = 1\n[model]\ncontext-length = 99\nheads = 4\nkv-heads=2\n"
        "channels = 64\n");
    EXPECT_EQ(config.train.sequence_length, 99);
    EXPECT_EQ(config.model.kv_heads, 2);
    config = load_text("[train]\nsteps = 1\nsequence-length = 77\n[model]\npreset='llama-8b'\n");
    EXPECT_EQ(config.model.sequence_length, 8192);
    EXPECT_EQ(config.model.kv_heads, 8);
    EXPECT_EQ(config.train.sequence_length, 77);
}

TEST(RunConfig, TomlReadsBackToTheSameBits) {
    RunConfig config = load_text("", {{"steps", "3"}, {"preset", "llama-15m"}});
    config.optimizer.learning_rate = 0.1 + 0.2;
    config.optimizer.epsilon = std::bit_cast<double>(uint64_t{1});  // the smallest denormal
    config.optimizer.weight_decay = 1.7976931348623157e308;
    config.optimizer.beta2 = std::nextafter(1.0, 0.0);
    config.optimizer.gradient_clip = 5.0;
    config.optimizer.schedule = ScheduleKind::warmup_stable_decay;
    config.optimizer.stochastic_rounding = true;
    config.train.seed = std::numeric_limits<int64_t>::max();
    config.train.output = "a \"quoted\" \\ path\twith\nlines, \x7f, \x01 and \xc3\xbc";
    config.data.data = "plain";
    config.train.recompute = Recompute::selective;
    config.parallel.gradient_dtype = DType::bf16;
    config.device.dtype = ComputeDType::bf16;
    config.device.device = DeviceKind::reference;
    config.model.vocabulary_size = 123;
    const std::string toml = to_toml(config);
    const RunConfig read = load_text(toml);
    EXPECT_EQ(to_toml(read), toml);
    EXPECT_EQ(read.model, config.model);
    EXPECT_EQ(read.preset, config.preset);
    EXPECT_EQ(read.optimizer.learning_rate, config.optimizer.learning_rate);
    EXPECT_EQ(read.optimizer.epsilon, config.optimizer.epsilon);
    EXPECT_EQ(read.optimizer.weight_decay, config.optimizer.weight_decay);
    EXPECT_EQ(read.optimizer.beta2, config.optimizer.beta2);
    EXPECT_EQ(read.optimizer.schedule, config.optimizer.schedule);
    EXPECT_EQ(read.train.seed, config.train.seed);
    EXPECT_EQ(read.train.output, config.train.output);
    EXPECT_EQ(read.parallel.gradient_dtype, config.parallel.gradient_dtype);
}

TEST(RunConfig, EveryFieldTakesItsDefaultAndWritesWhatItWasGiven) {
    std::set<std::string> keys;
    for (const RunField& field : run_fields()) {
        EXPECT_TRUE(keys.insert(field.key).second) << field.key << " is in two sections";
        EXPECT_FALSE(field.help.empty()) << field.key;
        for (const std::string& choice : field.choices) {
            RunConfig config;
            field.set(config, choice, "origin");
            EXPECT_EQ(field.get(config), '"' + choice + '"');
        }
        RunConfig config;
        field.set(config, field.default_text, "origin");
        EXPECT_EQ(field.get(config), field.get(RunConfig())) << field.key;
    }
}

TEST(RunConfig, SetReachesExactlyItsOwnField) {
    for (const RunField& field : run_fields()) {
        const char* opposite = field.default_text == "true" ? "false" : "true";
        const char* other_integer = field.default_text == "3" ? "2" : "3";
        std::string value = field.kind == FieldKind::boolean   ? opposite
                            : field.kind == FieldKind::integer ? other_integer
                            : field.kind == FieldKind::real    ? "0.7734375"
                                                               : "text";
        if (!field.choices.empty()) {
            value = field.choices[0] == field.default_text ? field.choices[1] : field.choices[0];
        }
        RunConfig config;
        field.set(config, value, "origin");
        for (const RunField& other : run_fields()) {
            EXPECT_EQ(other.get(config) != other.get(RunConfig()), other.key == field.key)
                << field.key << " changes " << other.key;
        }
    }
}

TEST(RunConfig, ReadyMadeConfigurationsAreValid) {
    int num_files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(LATHE_CONFIGS_FOLDER)) {
        if (entry.is_directory()) {
            continue;  // hardware descriptions
        }
        EXPECT_NO_THROW(load_run_config(entry.path().string(), {}).validate()) << entry.path();
        ++num_files;
    }
    EXPECT_GE(num_files, 3);
}

TEST(RunConfigErrors, ValuesAreReadStrictly) {
    const std::vector<std::pair<RunOverrides, std::string>> cases = {
        {{{"layers", "12x"}}, "--layers 12x: must be an integer"},
        {{{"layers", " 12"}}, "--layers  12: must be an integer"},
        {{{"layers", ""}}, "--layers : must be an integer"},
        {{{"layers", "1e6"}}, "--layers 1e6: must be an integer"},
        {{{"layers", "99999999999999999999"}}, "--layers 99999999999999999999: must be an integer"},
        {{{"layers", "0"}}, "--layers 0: must be from 1 to 2147483647"},
        {{{"learning-rate", "nan"}}, "--learning-rate nan: must be a finite number"},
        {{{"learning-rate", "inf"}}, "--learning-rate inf: must be a finite number"},
        {{{"learning-rate", "1e999"}}, "--learning-rate 1e999: must be a finite number"},
        {{{"learning-rate", "0"}}, "--learning-rate 0: must be greater than 0"},
        {{{"learning-rate", "-1"}}, "--learning-rate -1: must be greater than 0"},
        {{{"beta1", "1"}}, "--beta1 1: must be at least 0 and less than 1"},
        {{{"beta2", "-0.1"}}, "--beta2 -0.1: must be at least 0 and less than 1"},
        {{{"tied-embeddings", "yes"}}, "--tied-embeddings yes: must be true or false"},
        {{{"norm", "batchnorm"}}, "--norm batchnorm: must be one of layernorm, rmsnorm"},
        {{{"output", "\xff"}}, "--output \xff: must be valid UTF-8"},
        {{{"preset", "gpt2-124"}}, "--preset gpt2-124: unknown preset; did you mean gpt2-124m?"},
        {{{"seed", "-1"}}, "--seed -1: must be at least 0"},
        {{{"micro-batc", "1"}}, "--micro-batc: unknown option; did you mean micro-batch?"}};
    for (const auto& [overrides, message] : cases) {
        EXPECT_EQ(error_of_options(overrides), message);
    }
}

TEST(RunConfigErrors, FieldsThatDisagreeNameWhereTheyWereGiven) {
    EXPECT_TRUE(error_of("[train]\nsteps = 1\n\n[model]\nheads = 7\n")
                    .starts_with("FILE:5: heads = 7: must divide channels = 288"));
    EXPECT_TRUE(
        error_of_options({{"heads", "7"}}).starts_with("--heads 7: must divide channels = 288"));
    const std::vector<std::pair<RunOverrides, std::string>> cases = {
        {{{"global-batch", "12"}}, "--global-batch 12: must be a multiple of micro-batch = 8"},
        {{{"micro-batch", "3"}}, "global-batch = 8: must be a multiple of micro-batch = 3"},
        {{{"preset", "gpt2-124m"}, {"sequence-length", "1025"}},
         "--sequence-length 1025: must be at most the model's context-length = 1024"},
        {{{"schedule", "warmup-stable-decay"}, {"warmup-steps", "9"}},
         "decay-fraction = 0.2: must leave room for warmup-steps = 9 in steps = 10"},
        {{{"stochastic-rounding", "true"}, {"dtype", "f32"}},
         "--stochastic-rounding true: rounds bf16 parameters; needs dtype = bf16"},
        {{{"resume", ""}}, "--resume : must be auto, never, or a checkpoint's path"},
        {{{"steps", "2147483647"}, {"global-batch", "2147483640"}},
         "--steps 2147483647: with 2147483640 sequences of 256 tokens, the tokens do not fit in "
         "64 bits"}};
    for (const auto& [overrides, message] : cases) {
        EXPECT_EQ(error_of_options(overrides), message);
    }
}

TEST(RunConfig, ATrialMayEndWithinTheWarmUp) {
    for (const char* schedule : {"cosine", "warmup-stable-decay"}) {
        const RunConfig config =
            load_text("[optimizer]\nwarmup-steps = 700\n[train]\nsteps = 19000\n",
                      {{"steps", "10"}, {"schedule", schedule}});
        EXPECT_EQ(config.optimizer.warmup_steps, 700);
        EXPECT_EQ(config.train.steps, 10);
        config.validate();
    }
}

TEST(RunConfigErrors, OnlyTrainingNeedsAStepCount) {
    const RunConfig config = load_text("[optimizer]\nwarmup-steps = 9\n");
    EXPECT_THROW(config.validate(), UsageError);
}

TEST(RunConfigErrors, WrongFilesAreNamedByLine) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"[train]\nsteps = '10'\n", "FILE:2: steps = '10': must be an integer, not a string"},
        {"[train]\nsteps = 1e3\n",
         "FILE:2: steps = 1000.0: must be an integer, not a number with a point or exponent"},
        {"[train]\noutput = 3\n", "FILE:2: output = 3: must be a string in quotes, not an integer"},
        {"[train]\nsteps = [1,\n2]\n",
         "FILE:2: steps = [ 1, 2 ]: must be an integer, not an array"},
        {"[model]\ntied-embeddings = 1\n",
         "FILE:2: tied-embeddings = 1: must be true or false, not an integer"},
        {"[optimizer]\nlearning-rate = inf\n",
         "FILE:2: learning-rate = inf: must be a finite number"},
        {"[train]\n\nsteps = -1\n", "FILE:3: steps = -1: must be from 0 to 2147483647"},
        {"[train]\nmicro_batch = 1\n",
         "FILE:2: micro_batch: unknown key; did you mean micro-batch in the section [train]?"},
        {"[data]\nsteps = 1\n", "FILE:2: steps: belongs in the section [train], not [data]"},
        {"steps = 1\n", "FILE:1: steps: belongs in the section [train]"},
        {"[device]\nzzzzzz = 1\n",
         "FILE:2: zzzzzz: unknown key; [device] takes device, dtype, matmul, threads"},
        {"[trian]\nsteps = 1\n", "FILE:1: [trian]: unknown section; did you mean [train]?"},
        {"model = 1\n", "FILE:1: model: must be a section, written [model]"}};
    for (const auto& [text, message] : cases) {
        EXPECT_EQ(error_of(text), message);
    }
    EXPECT_TRUE(error_of("[train]\nsteps = 1\nsteps = 2\n").starts_with("FILE:3: "));
    EXPECT_TRUE(error_of("[train]\nsteps = = 2\n").starts_with("FILE:2: "));
    EXPECT_TRUE(error_of("[train\nsteps = 2\n").starts_with("FILE:1: "));
    EXPECT_TRUE(error_of("[train]\noutput = '\xff'\n").starts_with("FILE:2: "));
}

TEST(RunConfigErrors, MissingFileAndFolderAreNamed) {
    EXPECT_THROW(load_run_config("/nonexistent/run.toml", {}), UsageError);
    const ConfigFile file("");
    try {
        load_run_config(file.folder(), {});
        FAIL() << "a folder is read as a file";
    } catch (const UsageError& error) {
        EXPECT_EQ(error.what(), file.folder() + ": is a folder; give a configuration file");
    }
}

TEST(NearestName, SuggestsOnlyWhatIsNear) {
    const std::vector<std::string> names = {"steps", "seed", "output"};
    EXPECT_EQ(nearest_name("stpes", names), "steps");
    EXPECT_EQ(nearest_name("outputs", names), "output");
    EXPECT_EQ(nearest_name("sed", names), "seed");
    EXPECT_EQ(nearest_name("zebra", names), "");
    EXPECT_EQ(nearest_name("", names), "");
}

}  // namespace
}  // namespace lathe
