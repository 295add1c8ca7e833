// lathe import
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/model_files.h"

namespace lathe {
namespace {

struct ImportOptions {
    std::string input;
    ModelFilesOptions files;
};

int run_import(const ImportOptions& options) {
    const HuggingFaceFolder source(options.input);
    const FolderOptions files = options.files.resolve(source);
    import_model(options.files.output, source.config(), weights_of(source), files);
    report_written(source, options.files, files);
    return 0;
}

}  // namespace

void add_import(CLI::App& app, Action& action) {
    CLI::App* command = app.add_subcommand(
        "import",
        "Make a model folder for generate, evaluate and train --resume from a Hugging Face folder "
        "(config.json, safetensors, tokenizer.json) of GPT-2, Llama, Qwen2 or BLOOM.");
    auto options = std::make_shared<ImportOptions>();
    command->add_option("--input", options->input, "Hugging Face folder")->required();
    options->files.add_to(*command);
    command->callback([&action, options] { action = [options] { return run_import(*options); }; });
}

}  // namespace lathe
