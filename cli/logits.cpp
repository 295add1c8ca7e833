// lathe logits: what a model answers to given tokens, for comparing it with other programs.
#include <cstring>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/device_options.h"
#include "train/loaded_model.h"

namespace lathe {
namespace {

struct LogitsOptions {
    std::string model;
    std::string input;
    std::string output;
    DeviceOptions device;
};

int run_logits(const LogitsOptions& options) {
    LoadedModel model(options.model, options.device.config());
    const SafetensorsFile input(options.input);
    const SafetensorsTensor* tokens = input.find("tokens");
    LATHE_CHECK_USAGE(tokens != nullptr && tokens->dtype == safetensors_dtype(DType::i32) &&
                          tokens->shape.size() == 2 && tokens->size() > 0,
                      "{}: must hold a tensor 'tokens' [B, T] of I32", options.input);
    const int64_t B = tokens->shape[0];
    const int64_t T = tokens->shape[1];
    const int64_t V = model.config().vocabulary_size;
    LATHE_CHECK_USAGE(T <= model.config().sequence_length,
                      "{}: has sequences of {} tokens, the model's longest is {}", options.input, T,
                      model.config().sequence_length);
    const Shape shape{B, T};
    std::vector<int32_t> ids(static_cast<size_t>(shape.size()));
    std::memcpy(ids.data(), tokens->data.data(), tokens->data.size());
    for (const int32_t id : ids) {
        LATHE_CHECK_USAGE(id >= 0 && id < V, "{}: token {} is not in the vocabulary of {}",
                          options.input, id, V);
    }
    Backend& backend = model.backend();
    const Buffer device_tokens = backend.allocate(shape, DType::i32, MemoryCategory::activations);
    backend.copy_from_host(device_tokens, ids.data());
    const int64_t padded = model.config().padded_vocabulary();
    const Buffer logits = backend.allocate({B, T, padded}, DType::f32, MemoryCategory::activations);
    model.transformer().logits(model.params(), device_tokens, logits);
    std::vector<float> rows(static_cast<size_t>(B * T * padded));
    backend.copy_to_host(rows.data(), logits);

    SafetensorsWriter writer(options.output, {{"logits", "F32", {B, T, V}}});
    for (int64_t row = 0; row < B * T; ++row) {
        const std::span<const float> values(rows.data() + row * padded, static_cast<size_t>(V));
        writer.write(0, row * V * 4, std::as_bytes(values));
    }
    writer.finish();
    return 0;
}

}  // namespace

void add_logits(CLI::App& app, Action& action) {
    CLI::App* command = app.add_subcommand(
        "logits", "Write a model's logits of given tokens, to compare it with other programs.");
    auto options = std::make_shared<LogitsOptions>();
    command->add_option("--model", options->model, "run folder, checkpoint, or model folder")
        ->required();
    command->add_option("--input", options->input, "safetensors file with tokens [B, T], I32")
        ->required();
    command
        ->add_option("--output", options->output,
                     "safetensors file to write: logits [B, T, V], F32")
        ->required();
    options->device.add_to(*command);
    command->callback([&action, options] { action = [options] { return run_logits(*options); }; });
}

}  // namespace lathe
