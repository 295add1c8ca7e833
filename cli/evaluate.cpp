// lathe evaluate
#include <fmt/core.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/commands.h"
#include "cli/device_options.h"
#include "parallel/single_communicator.h"
#include "train/evaluation.h"
#include "train/loaded_model.h"

namespace lathe {
namespace {

struct EvaluateOptions {
    std::string model;
    std::string data;
    std::string split = "validation";
    int64_t sequence_length = 0;
    int64_t sequences = 0;
    int64_t micro_batch = 8;
    bool json = false;
    DeviceOptions device;
};

int run_evaluate(const EvaluateOptions& options) {
    LATHE_CHECK_USAGE(options.sequences >= 0, "--sequences {}: must be 0 (all) or positive",
                      options.sequences);
    LATHE_CHECK_USAGE(options.split == "train" || options.split == "validation",
                      "--split {}: must be train or validation", options.split);
    LATHE_CHECK_USAGE(options.micro_batch >= 1, "--micro-batch {}: must be at least 1",
                      options.micro_batch);
    LoadedModel model(options.model, options.device.config());
    const int64_t longest = model.config().sequence_length;
    const int64_t length = options.sequence_length == 0 ? longest : options.sequence_length;
    LATHE_CHECK_USAGE(length >= 1 && length <= longest,
                      "--sequence-length {}: the model's longest context is {}", length, longest);
    const DatasetInfo info = read_dataset_info(options.data);
    LATHE_CHECK_USAGE(
        info.tokenizer_fingerprint == fmt::format("{:016x}", model.tokenizer().fingerprint()),
        "--data {}: made with another tokenizer than the model's; prepare it with --tokenizer {}",
        options.data, (model.path() / "tokenizer.json").string());
    const TokenDataset dataset(options.data, options.split);
    const Loader loader(dataset, length, 0, SampleOrder::kSequential);
    Evaluator evaluator(model.backend(), model.tokenizer(), options.micro_batch, length);
    const Evaluation result = evaluator.run(model.transformer(), model.params(), loader,
                                            options.sequences, *make_single_communicator());
    if (options.json) {
        const nlohmann::json text = {{"loss", result.loss},
                                     {"perplexity", std::exp(result.loss)},
                                     {"bits_per_byte", result.bits_per_byte},
                                     {"tokens", result.tokens}};
        fmt::print("{}\n", text.dump());
        return 0;
    }
    fmt::print("{} tokens of {}: loss {:.4f} nats a token, perplexity {:.2f}, {:.4f} bits a byte\n",
               result.tokens, options.split, result.loss, std::exp(result.loss),
               result.bits_per_byte);
    return 0;
}

}  // namespace

void add_evaluate(CLI::App& app, Action& action) {
    CLI::App* command = app.add_subcommand("evaluate", "Measure a model's loss on prepared data.");
    auto options = std::make_shared<EvaluateOptions>();
    command->add_option("--model", options->model, "run folder, checkpoint, or model folder")
        ->required();
    command->add_option("--data", options->data, "folder made by lathe prepare")->required();
    command->add_option("--split", options->split, "train or validation")->capture_default_str();
    command
        ->add_option("--sequence-length", options->sequence_length,
                     "tokens; 0: the model's longest")
        ->capture_default_str();
    command->add_option("--sequences", options->sequences, "at most so many; 0: all")
        ->capture_default_str();
    command->add_option("--micro-batch", options->micro_batch, "sequences at a time")
        ->capture_default_str();
    command->add_flag("--json", options->json, "print JSON");
    options->device.add_to(*command);
    command->callback(
        [&action, options] { action = [options] { return run_evaluate(*options); }; });
}

}  // namespace lathe
