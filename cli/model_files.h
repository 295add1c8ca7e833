// What lathe export and lathe import share: a model folder to read, and what to write beside its
// weights.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "model/hugging_face_folder.h"

namespace lathe {

/// --output, --dtype and --tokenizer.
struct ModelFilesOptions {
    std::string output;
    std::string dtype = "auto";
    std::string tokenizer;

    void add_to(CLI::App& command);
    /// The type to store, and the tokenizer: --tokenizer, or the folder's own, or none. Throws
    /// UsageError for a tokenizer that cannot be read or has more tokens than the model.
    FolderOptions resolve(const HuggingFaceFolder& source) const;
};

/// The weights of a folder, checked to be whole.
UnitSource weights_of(const HuggingFaceFolder& source);

/// One line: what was written where.
void report_written(const HuggingFaceFolder& source, const ModelFilesOptions& options,
                    const FolderOptions& written);

}  // namespace lathe
