// lathe export
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/model_files.h"
#include "train/checkpoint.h"

namespace lathe {
namespace {

struct ExportOptions {
    std::string checkpoint;
    ModelFilesOptions files;
};

int run_export(const ExportOptions& options) {
    const std::filesystem::path folder = resolve_model_folder(options.checkpoint);
    if (is_checkpoint(folder)) {
        verify_checkpoint(folder);
    }
    const HuggingFaceFolder source(folder);
    const FolderOptions files = options.files.resolve(source);
    export_model(options.files.output, source.config(), weights_of(source), files);
    report_written(source, options.files, files);
    return 0;
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
    CLI::App* command = app.add_subcommand(
        "export", "Write a Hugging Face folder (GPT-2, Llama, Qwen2, BLOOM) from a checkpoint.");
    auto options = std::make_shared<ExportOptions>();
    command
        ->add_option("--checkpoint", options->checkpoint,
                     "checkpoint, model folder, or run folder (its newest checkpoint)")
        ->required();
    options->files.add_to(*command);
    command->callback([&action, options] { action = [options] { return run_export(*options); }; });
}

}  // namespace lathe
