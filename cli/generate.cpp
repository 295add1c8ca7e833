// lathe generate
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/device_options.h"
#include "train/generation.h"
#include "train/loaded_model.h"
#include "train/matmul_ceiling.h"

namespace lathe {
namespace {

struct GenerateOptions {
    std::string model;
    std::string prompt;
    int64_t tokens = 200;
    int64_t samples = 1;
    SamplingOptions sampling{.temperature = 0.8, .top_k = 0, .top_p = 0.95};
    bool speed = false;
    DeviceOptions device;
};

double median(std::vector<double> values) {
    const auto middle = values.begin() + std::ssize(values) / 2;
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

/// The times from one token to the next, each beside a reading of as many bytes of memory as a
/// token takes at least: all weights once. The first token of a text waits for its prompt, and is
/// left out.
class SpeedReport {
  public:
    explicit SpeedReport(LoadedModel& model)
        : compute_(model.compute()),
          bytes_(matmul_parameters(model.config()) * static_cast<double>(size_of(compute_))),
          probe_(model.backend(), static_cast<int64_t>(bytes_)) {}

    void start_text() { last_ = {}; }
    void token() {
        if (last_) {
            const std::chrono::duration<double> took = Clock::now() - *last_;
            seconds_.push_back(took.count());
            reading_.push_back(probe_.measure());
            shares_.push_back(bytes_ / took.count() / reading_.back());
        }
        last_ = Clock::now();
    }

    void print() const {
        LATHE_CHECK_USAGE(
            !seconds_.empty(),
            "--speed: the text ended with its first token; use another --prompt or --seed");
        const double seconds = median(seconds_);
        fmt::print(
            stderr,
            "{:.1f} tokens/s: {:.3f} ms for {:.1f} MB of weights in {}, {:.1f} GB/s, {:.1f}% of "
            "the {:.1f} GB/s at which this device read its memory in between (medians of {})\n",
            1.0 / seconds, 1e3 * seconds, bytes_ / 1e6, name_of(compute_), bytes_ / seconds / 1e9,
            100.0 * median(shares_), median(reading_) / 1e9, seconds_.size());
    }

  private:
    using Clock = std::chrono::steady_clock;

    DType compute_;
    double bytes_;
    MemoryReadProbe probe_;
    std::optional<Clock::time_point> last_;
    std::vector<double> seconds_;
    std::vector<double> reading_;
    std::vector<double> shares_;
};

int run_generate(const GenerateOptions& options) {
    options.sampling.validate();
    LATHE_CHECK_USAGE(options.tokens >= 1, "--tokens {}: must be at least 1", options.tokens);
    LATHE_CHECK_USAGE(!options.speed || options.tokens >= 2,
                      "--speed: --tokens {} has no time from one token to the next; ask for more",
                      options.tokens);
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
    std::optional<SpeedReport> speed;
    if (options.speed) {
        speed.emplace(model);
    }
    for (int64_t sample = 0; sample < options.samples; ++sample) {
        std::fputs(options.prompt.c_str(), stdout);
        if (speed) {
            speed->start_text();
        }
        generator.run(prompt, options.tokens, options.sampling, static_cast<uint64_t>(sample),
                      [&](int32_t token) {
                          if (speed) {
                              speed->token();
                          }
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
    if (speed) {
        speed->print();
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
    command->add_flag("--speed", options->speed,
                      "say how fast it went, and what share of the memory's bandwidth that is");
    options->device.add_to(*command);
    command->callback(
        [&action, options] { action = [options] { return run_generate(*options); }; });
}

}  // namespace lathe
