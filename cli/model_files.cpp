#include "cli/model_files.h"

#include <fmt/core.h>

#include <memory>

#include "data/tokenizer.h"
#include "kernels/error.h"

namespace lathe {
namespace {

DType stored_dtype(const std::string& name, const HuggingFaceFolder& source) {
    if (name == "auto") {
        return source.stored_dtype();
    }
    LATHE_CHECK_USAGE(name == "f32" || name == "bf16", "--dtype {}: must be auto, f32 or bf16",
                      name);
    return name == "bf16" ? DType::bf16 : DType::f32;
}

/// A tokenizer need not have a token that ends a document.
std::optional<EndOfText> end_of_text_of(const Tokenizer& tokenizer) {
    const std::optional<int32_t> id = tokenizer.find_end_of_text();
    return id ? std::optional(EndOfText{*id, std::string(tokenizer.token_bytes(*id))})
              : std::nullopt;
}

}  // namespace

void ModelFilesOptions::add_to(CLI::App& command) {
    command.add_option("--output", output, "folder to make")->required();
    command.add_option("--dtype", dtype, "stored type: auto (as it is), f32, bf16")
        ->capture_default_str();
    command.add_option("--tokenizer", tokenizer, "tokenizer.json to use instead of the folder's");
}

FolderOptions ModelFilesOptions::resolve(const HuggingFaceFolder& source) const {
    FolderOptions options{.dtype = stored_dtype(dtype, source)};
    std::filesystem::path file = tokenizer;
    if (file.empty()) {
        file = source.path() / "tokenizer.json";
        if (!std::filesystem::exists(file)) {
            return options;
        }
    }
    const Tokenizer loaded = Tokenizer::load(file);
    LATHE_CHECK_USAGE(loaded.vocabulary_size() <= source.config().vocabulary_size,
                      "{}: has {} tokens, the model of {} only {}; they do not belong together",
                      file.string(), loaded.vocabulary_size(), source.path().string(),
                      source.config().vocabulary_size);
    options.tokenizer = file;
    options.end_of_text = end_of_text_of(loaded);
    return options;
}

UnitSource weights_of(const HuggingFaceFolder& source) {
    const auto mapping =
        std::make_shared<HuggingFaceMapping>(source.config(), ParamLayout(source.config()));
    source.check(*mapping);
    return [&source, mapping](int unit, std::span<float> row) {
        source.read_unit(*mapping, unit, row);
    };
}

void report_written(const HuggingFaceFolder& source, const ModelFilesOptions& options,
                    const FolderOptions& written) {
    fmt::print(
        "{}: {} model of {} parameters in {}{}\n", options.output,
        name_of(family_of(source.config())), ParamLayout(source.config()).num_parameters(),
        name_of(written.dtype),
        written.tokenizer.empty() ? ", without a tokenizer (there was no tokenizer.json)" : "");
}

}  // namespace lathe
