// lathe bench: the device's operations at the sizes of real models.
#include "kernels/bench/bench.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/device_options.h"
#include "kernels/cuda/cuda_backend.h"
#include "model/config.h"
#include "model/head.h"
#include "train/device.h"

namespace lathe {
namespace {

constexpr int64_t kLongestDefault = 2048;
constexpr int64_t kDefaultTokens = 4096;

struct BenchCommand {
    std::vector<std::string> models = {"gpt2-124m", "gpt2-1558m", "llama-8b"};
    int64_t micro_batch = 0;
    int64_t sequence_length = 0;
    bench::BenchOptions options;
    DeviceOptions device;
};

bench::ModelSizes sizes_of(const std::string& name, const BenchCommand& command) {
    const ModelConfig config = preset(name);
    const int64_t time = command.sequence_length > 0
                             ? command.sequence_length
                             : std::min(config.sequence_length, kLongestDefault);
    const int64_t batch =
        command.micro_batch > 0 ? command.micro_batch : std::max<int64_t>(1, kDefaultTokens / time);
    Activation activation = Activation::none;
    if (config.mlp != MlpKind::swiglu) {
        activation =
            config.mlp == MlpKind::gelu_exact ? Activation::gelu_exact : Activation::gelu_tanh;
    }
    return {.name = name,
            .batch = batch,
            .time = time,
            .channels = config.channels,
            .feed_forward = config.feed_forward,
            .vocabulary = config.padded_vocabulary(),
            .heads = config.attention_heads(),
            .norm = config.norm,
            .activation = activation,
            .biases = config.biases == Biases::all,
            .learned_positions = config.positions == Positions::learned,
            .rotary = config.positions == Positions::rotary,
            .head_rows = head_chunk_rows(batch * time, config.padded_vocabulary())};
}

/// Products of a CUDA device are run by cuBLAS as well, where the build has it.
std::unique_ptr<Backend> library_backend(const Backend& backend) {
    if (backend.device().kind != "cuda") {
        return nullptr;
    }
    try {
        return make_cuda_backend({.matmul = MatmulLibrary::cublas});
    } catch (const UsageError& error) {
        fmt::print(stderr, "lathe: {}; only Lathe's own products are measured\n", error.what());
        return nullptr;
    }
}

int run_bench_command(const BenchCommand& command) {
    bench::BenchOptions options = command.options;
    for (const std::string& name : command.models) {
        options.models.push_back(sizes_of(name, command));
    }
    const DeviceConfig config = command.device.config();
    const auto backend = make_backend(config);
    const auto library = library_backend(*backend);
    options.compute = compute_dtype(config, *backend);
    bench::run_bench(*backend, library.get(), options);
    return 0;
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
    CLI::App* command = app.add_subcommand(
        "bench", "Measure the device's operations at the sizes of models, each with cold caches.");
    auto bench = std::make_shared<BenchCommand>();
    bench::BenchOptions& options = bench->options;
    command->add_option("--model", bench->models, "presets whose sizes to take")
        ->capture_default_str();
    command->add_option("--micro-batch", bench->micro_batch, "sequences; 0: some 4,096 tokens")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command
        ->add_option("--sequence-length", bench->sequence_length,
                     "tokens; 0: the model's, 2,048 at most")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command->add_option("--filter", options.filter, "regular expression: only cases named so")
        ->capture_default_str();
    command->add_option("--min-time", options.min_seconds, "seconds of samples a case")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command
        ->add_option("--repetitions", options.repetitions,
                     "of each case; of several, medians are shown")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command->add_flag("--once", options.once,
                      "issue each case once and nothing else: for profilers");
    command->add_flag("--list", options.list, "only say the cases' names");
    command->add_option("--json", options.json_file, "also write this file");
    bench->device.add_to(*command);
    command->callback([&action, bench] { action = [bench] { return run_bench_command(*bench); }; });
}

}  // namespace lathe
