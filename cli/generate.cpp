// lathe generate
#include <cstdio>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/device_options.h"
#include "train/generation.h"
#include "train/loaded_model.h"

namespace lathe {
namespace {

struct GenerateOptions {
    std::string model;
    std::string prompt;
    int64_t tokens = 200;
    int64_t samples = 1;
    SamplingOptions sampling{.temperature = 0.8, .top_k = 0, .top_p = 0.95};
    DeviceOptions device;
};

int run_generate(const GenerateOptions& options) {
    options.sampling.validate();
    LATHE_CHECK_USAGE(options.tokens >= 1, "--tokens {}: must be at least 1", options.tokens);
    LATHE_CHECK_USAGE(options.samples >= 1, "--samples {}: must be at least 1", options.samples);
    LoadedModel model(options.model, options.device.config());
    const Tokenizer& tokenizer = model.tokenizer();
    const int32_t end_of_text = tokenizer.end_of_text();
    // A document begins after the one before it ended.
    std::vector<int32_t> prompt = tokenizer.encode(options.prompt, SpecialText::kTokens);
    if (prompt.empty()) {
        prompt.push_back(end_of_text);
    }
    Generator generator(model.backend(), model.transformer(), model.params(),
                        tokenizer.vocabulary_size(), model.config().sequence_length);
    for (int64_t sample = 0; sample < options.samples; ++sample) {
        std::fputs(options.prompt.c_str(), stdout);
        generator.run(prompt, options.tokens, options.sampling, static_cast<uint64_t>(sample),
                      [&](int32_t token) {
                          if (token == end_of_text) {
                              return false;
                          }
                          const std::string_view bytes = tokenizer.token_bytes(token);
                          std::fwrite(bytes.data(), 1, bytes.size(), stdout);
                          std::fflush(stdout);
                          return true;
                      });
        std::fputc('\n', stdout);
    }
    return 0;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
    CLI::App* command = app.add_subcommand("generate", "Continue a text with a trained model.");
    auto options = std::make_shared<GenerateOptions>();
    command->add_option("--model", options->model, "run folder, checkpoint, or model folder")
        ->required();
    command->add_option("--prompt", options->prompt,
                        "text to continue (default: the start of a document)");
    command->add_option("--tokens", options->tokens, "most tokens to make")->capture_default_str();
    command->add_option("--samples", options->samples, "how many texts to make")
        ->capture_default_str();
    SamplingOptions& sampling = options->sampling;
    command->add_option("--temperature", sampling.temperature, "0: always the most probable token")
        ->capture_default_str();
    command->add_option("--top-k", sampling.top_k, "draw from the k most probable tokens; 0: all")
        ->capture_default_str();
    command
        ->add_option("--top-p", sampling.top_p,
                     "draw from the most probable tokens that reach p together")
        ->capture_default_str();
    command->add_option("--seed", sampling.seed, "of the draws")->capture_default_str();
    options->device.add_to(*command);
    command->callback(
        [&action, options] { action = [options] { return run_generate(*options); }; });
}

}  // namespace lathe
