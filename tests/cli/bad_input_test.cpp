// Bad input gets one line on standard error that names what is wrong and the mend, exit code 2, and
// leaves nothing behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/files.h"
#include "tests/support/small_corpus.h"
#include "train/checkpoint.h"

namespace lathe::testing {
namespace {

namespace fs = std::filesystem;

void expect_refused(const std::vector<std::string>& arguments,
                    const std::vector<std::string>& named) {
    const ProcessResult result = run_lathe(arguments);
    std::string command;
    for (const std::string& argument : arguments) {
        command += " " + argument;
    }
    EXPECT_EQ(result.exit_code, 2) << command << "\n" << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << command << "\n"
                                                                         << result.err;
    for (const std::string& text : named) {
        EXPECT_NE(result.err.find(text), std::string::npos)
            << command << "\n'" << text << "' not in: " << result.err;
    }
}

class BadInput : public ::testing::Test {
  protected:
    static void SetUpTestSuite() {
        folder_ = new TemporaryFolder();
        data_ = prepare_small_data(*folder_);
    }
    static void TearDownTestSuite() {
        delete folder_;
        folder_ = nullptr;
    }

    static std::vector<std::string> train(const std::vector<std::string>& more,
                                          const std::string& data = data_) {
        std::vector<std::string> arguments = {
            "train", "--data",         data, "--output",          output(), "--steps",
            "3",     "--layers",       "1",  "--channels",        "32",     "--heads",
            "2",     "--feed-forward", "64", "--sequence-length", "16",     "--micro-batch",
            "2",     "--global-batch", "2"};
        // Pairs of an option and its value; an option that is there already gets the new value.
        for (size_t i = 0; i < more.size(); i += 2) {
            const auto there = std::find(arguments.begin(), arguments.end(), more[i]);
            if (there == arguments.end()) {
                arguments.insert(arguments.end(), {more[i], more[i + 1]});
            } else {
                *(there + 1) = more[i + 1];
            }
        }
        return arguments;
    }
    static std::string output() { return *folder_ / "run"; }

    /// A copy of the prepared data that a test may damage.
    static std::string damaged_copy(const std::string& name) {
        const std::string copy = *folder_ / name;
        fs::copy(data_, copy, fs::copy_options::recursive);
        return copy;
    }

    void TearDown() override {
        EXPECT_FALSE(fs::exists(output())) << "bad input left a run folder behind";
    }

    static TemporaryFolder* folder_;
    static std::string data_;
};
TemporaryFolder* BadInput::folder_ = nullptr;
std::string BadInput::data_;

TEST_F(BadInput, UnknownOptionsAndCommands) {
    expect_refused({"tarin"}, {"tarin"});
    expect_refused({}, {"subcommand"});
    expect_refused(train({"--microbatch", "3"}), {"--microbatch", "--micro-batch"});
    expect_refused(train({"--micro-batch", "three"}), {"micro-batch", "three"});
    expect_refused(train({"--micro-batch", "1e3"}), {"micro-batch", "1e3"});
    expect_refused({"generate"}, {"--model"});
    std::vector<std::string> twice = train({});
    twice.insert(twice.end(), {"--steps", "4"});
    expect_refused(twice, {"--steps: is given 2 times"});
    expect_refused({"prepare", "--input", data_, "--output", output(), "--vocab-size", "many"},
                   {"--vocab-size many: must be a whole number"});
    expect_refused({"generate", "--model", data_, "--top-p", "high"},
                   {"--top-p high: must be a number"});
    expect_refused({"generate", "--model"}, {"--model: its value is missing"});
}

TEST_F(BadInput, ConfigurationFiles) {
    const std::string file = *folder_ / "bad.toml";
    expect_refused(train({"--config", *folder_ / "none.toml"}), {"none.toml"});
    write_file(file, "[train]\nmicro-bacth = 4\n");
    expect_refused(train({"--config", file}), {"bad.toml:2", "micro-bacth", "micro-batch"});
    write_file(file, "[train]\nlearning-rate = 0.1\n");
    expect_refused(train({"--config", file}), {"bad.toml:2", "learning-rate", "[optimizer]"});
    write_file(file, "[train\n");
    expect_refused(train({"--config", file}), {"bad.toml:"});
    write_file(file, "[train]\nglobal-batch = \"many\"\n");
    expect_refused(train({"--config", file}), {"bad.toml:2", "global-batch", "many"});
}

TEST_F(BadInput, ImpossibleShapes) {
    expect_refused(train({"--heads", "5"}), {"heads", "5", "32"});
    expect_refused(train({"--heads", "4", "--kv-heads", "3"}), {"kv-heads", "3"});
    expect_refused(train({"--global-batch", "3"}), {"global-batch", "3", "micro-batch"});
    expect_refused(train({"--context-length", "8"}), {"sequence-length", "16", "8"});
    expect_refused(train({"--layers", "0"}), {"layers", "0"});
    expect_refused(train({"--steps", "0"}), {"steps", "0"});
    expect_refused(train({"--vocabulary-size", "100"}), {"vocabulary-size", "100", "320"});
    expect_refused(train({"--sequence-length", "100000"}), {"100000"});
    expect_refused(train({"--preset", "gpt3"}), {"preset", "gpt3", "gpt2-124m"});
}

TEST_F(BadInput, Plans) {
    const auto plan = [](std::vector<std::string> more) {
        more.insert(more.begin(), {"plan", "--preset", "llama-5m", "--hardware", "a100-40gb"});
        return more;
    };
    EXPECT_EQ(run_lathe(plan({"--ranks", "6"})).exit_code, 0);
    expect_refused({"plan", "--preset", "llama-5m", "--hardware", "a100"}, {"a100", "a100-40gb"});
    expect_refused({"plan", "--layers", "2", "--hardware", "h200"}, {"vocabulary-size"});
    expect_refused(plan({"--ranks", "0"}), {"--ranks 0"});
    expect_refused(plan({"--ranks", "six"}), {"--ranks", "six"});
    expect_refused(plan({"--ranks", "6", "--shard-size", "4"}), {"shard-size", "4", "6"});
    expect_refused(plan({"--ranks-per-node", "9"}), {"--ranks-per-node 9", "8"});
    expect_refused(plan({"--device", "cpu"}), {"device", "cpu", "cuda"});
    expect_refused(plan({"--tokens", "0"}), {"--tokens 0"});
    expect_refused(plan({"--micro-batch", "3"}), {"global-batch", "3"});
    expect_refused(plan({"--best", "0", "--search"}), {"--best 0"});
    expect_refused({"plan", "memory", "--params", "0"}, {"--params 0"});
    expect_refused({"plan", "memory", "--params", "1e9", "--ranks", "0"}, {"--ranks 0"});
    expect_refused({"plan", "memory", "--parms", "1e9"}, {"--parms", "--params"});
    expect_refused({"plan", "memry"}, {"memry", "memory"});
    expect_refused({"plan", "compute"}, {"--flops"});
    expect_refused({"plan", "compute", "--flops", "0"}, {"--flops 0"});
    expect_refused({"plan", "compute", "--gpu-days", "3"}, {"--gpu-days", "--hardware"});
    expect_refused({"plan", "fit"}, {"runs"});
    expect_refused({"plan", "fit", *folder_ / "nothing"}, {"nothing", "metrics.jsonl"});
}

TEST_F(BadInput, PlacesToOffloadTo) {
    expect_refused(train({"--offload", "everything"}), {"offload", "everything", "optimizer"});
    expect_refused(train({"--offload-folder", "/tmp"}), {"offload-folder", "/tmp", "offload"});
    const std::vector<std::string> offload = train({"--offload", "optimizer"});
    for (const std::string& folder : {(*folder_ / "nowhere").string(), std::string("/proc")}) {
        std::vector<std::string> arguments = offload;
        arguments.insert(arguments.end(), {"--offload-folder", folder});
        expect_refused(arguments, {"--offload-folder", folder});
    }
    expect_refused(train({"--offload", "optimizer", "--device", "reference"}),
                   {"--offload", "reference"});
}

TEST_F(BadInput, DevicesThatCannotBeUsed) {
    expect_refused(train({"--matmul", "cublas", "--device", "cpu"}), {"matmul", "--device cuda"});
    const std::string complaint = cuda_complaint();  // no driver, or a build without CUDA
    if (complaint.empty()) {
        GTEST_SKIP() << "there is a GPU";
    }
    EXPECT_NE(complaint.find("--device cpu"), std::string::npos) << complaint;
    for (const char* matmul : {"native", "cublas"}) {
        expect_refused(train({"--device", "cuda", "--matmul", matmul}), {complaint});
    }
}

TEST_F(BadInput, MissingAndDamagedData) {
    expect_refused(train({}, *folder_ / "nowhere"), {"nowhere"});
    const std::string truncated = damaged_copy("truncated");
    fs::resize_file(fs::path(truncated) / "train-00000.bin", 2000);
    expect_refused(train({}, truncated), {"train-00000.bin"});
    const std::string empty = damaged_copy("empty");
    fs::resize_file(fs::path(empty) / "validation-00000.bin", 0);
    expect_refused(train({}, empty), {"validation-00000.bin"});
    const std::string missing = damaged_copy("missing");
    fs::remove(fs::path(missing) / "train-00000.bin");
    expect_refused(train({}, missing), {"train-00000.bin"});
    const std::string tokenizer = damaged_copy("tokenizer");
    fs::resize_file(fs::path(tokenizer) / "tokenizer.json", 500);
    expect_refused(train({}, tokenizer), {"tokenizer.json"});
}

TEST_F(BadInput, FoldersThatHoldSomethingElse) {
    const std::string other = *folder_ / "other";
    fs::create_directories(other);
    write_file(fs::path(other) / "thesis.tex", "precious");
    std::vector<std::string> arguments = train({});
    arguments[4] = other;
    expect_refused(arguments, {"thesis.tex"});
    EXPECT_EQ(read_file(fs::path(other) / "thesis.tex"), "precious");
    EXPECT_EQ(std::distance(fs::directory_iterator(other), {}), 1) << "something was added";

    arguments[4] = *folder_ / "first";
    ASSERT_EQ(run_lathe(arguments).exit_code, 0);
    std::vector<std::string> another = arguments;
    another.insert(another.end(), {"--learning-rate", "0.5"});
    expect_refused(another, {"learning-rate", "0.5"});
    std::vector<std::string> never = arguments;
    never.insert(never.end(), {"--resume", "never"});
    expect_refused(never, {"--resume auto"});
    expect_refused(train({"--resume", *folder_ / "nothing"}), {"nothing"});
    expect_refused({"export", "--checkpoint", *folder_ / "first", "--output", other}, {"other"});
}

TEST_F(BadInput, ModelsAndCheckpointsThatDoNotFit) {
    std::vector<std::string> arguments = train({"--dtype", "f32"});
    arguments[4] = *folder_ / "start";
    ASSERT_EQ(run_lathe(arguments).exit_code, 0);
    const std::string run = arguments[4];
    const fs::path checkpoint = checkpoint_path(run, 3);
    const std::string model = *folder_ / "model";
    ASSERT_EQ(run_lathe({"export", "--checkpoint", run, "--output", model}).exit_code, 0);

    expect_refused(train({"--dtype", "bf16", "--resume", run}), {"--dtype bf16", "--dtype f32"});
    expect_refused(train({"--dtype", "f32", "--resume", model, "--channels", "48"}),
                   {"model", "[320, 32]", "[320, 48]"});

    // Another text, so another tokenizer of as many tokens.
    write_file(*folder_ / "other.txt", small_corpus(40000, 2) + " jackdaws love my sphinx");
    const std::string data = *folder_ / "other-data";
    ASSERT_EQ(run_lathe({"prepare", "--input", *folder_ / "other.txt", "--output", data,
                         "--vocab-size", "320"})
                  .exit_code,
              0);
    for (const std::string& start : {run, model}) {
        expect_refused(train({"--dtype", "f32", "--resume", start}, data),
                       {"--data", data, "--tokenizer", "tokenizer.json"});
        expect_refused({"evaluate", "--model", start, "--data", data},
                       {"--data", data, "--tokenizer", "tokenizer.json"});
    }

    const std::string state = read_file(checkpoint / "state.json");
    write_file(checkpoint / "state.json", state.substr(0, 10));
    expect_refused(train({"--dtype", "f32", "--resume", run}), {"state.json"});
    fs::remove(checkpoint / "state.json");
    expect_refused(train({"--dtype", "f32", "--resume", run}), {"state.json"});
    // Nor does a run that goes on take it for a mere model to begin with.
    std::vector<std::string> longer = arguments;
    longer[6] = "5";
    expect_refused(longer, {"state.json", "remove"});
    write_file(checkpoint / "state.json", state);
    fs::resize_file(checkpoint / "model-00002-of-00003.safetensors", 100);
    expect_refused(train({"--dtype", "f32", "--resume", run}),
                   {"model-00002-of-00003.safetensors"});
    for (const char* command : {"generate", "evaluate", "export"}) {
        std::vector<std::string> uses = {command, "--model", run};
        if (std::string(command) == "evaluate") {
            uses.insert(uses.end(), {"--data", data_});
        } else if (std::string(command) == "export") {
            uses = {command, "--checkpoint", run, "--output", output()};
        }
        expect_refused(uses, {"model-00002-of-00003.safetensors"});
    }
}

TEST_F(BadInput, ModelsThatAreNoModels) {
    expect_refused({"generate", "--model", *folder_ / "nothing"}, {"nothing"});
    expect_refused({"generate", "--model", data_}, {"config.json"});
    expect_refused({"evaluate", "--model", *folder_ / "nothing", "--data", data_}, {"nothing"});
    expect_refused(
        {"evaluate", "--model", *folder_ / "nothing", "--data", data_, "--split", "tset"},
        {"--split tset: must be train or validation"});
}

}  // namespace
}  // namespace lathe::testing
