// Folders of Hugging Face's layout: config.json, model.safetensors (whole, or one file per unit
// with an index), tokenizer.json.
//
// A unit at a time is read or written, so memory for one unit is enough for any model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/hugging_face.h"
#include "model/safetensors.h"

namespace lathe {

/// "model-00001-of-00008.safetensors" for unit 0 of 8.
std::string unit_file_name(int unit, int num_units);
/// Writes one unit's file into `folder` from the unit's row; the parts of a checkpoint, in any
/// order and by any process. Also write_index_file and config.json make it a folder that
/// transformers loads.
void write_unit_file(const std::filesystem::path& folder, const HuggingFaceMapping& mapping,
                     int unit, std::span<const float> unit_row, DType dtype);
/// model.safetensors.index.json for the unit files; it depends on the mapping alone.
void write_index_file(const std::filesystem::path& folder, const HuggingFaceMapping& mapping,
                      DType dtype);
/// config.json (see config_json).
void write_config_file(const std::filesystem::path& folder, const ModelConfig& config, DType dtype,
                       std::optional<int64_t> end_of_text = std::nullopt);

/// A model folder opened for reading.
class HuggingFaceFolder {
  public:
    /// Reads config.json and the headers of all files; throws UsageError naming the file and the
    /// problem: no config, no weights, an index that names an absent file, a corrupt file.
    explicit HuggingFaceFolder(const std::filesystem::path& folder);

    const ModelConfig& config() const { return config_; }
    /// bf16 when all weights are stored so; else f32, which holds all that can be stored.
    DType stored_dtype() const;
    const std::filesystem::path& path() const { return folder_; }
    /// Throws UsageError naming missing tensors, tensors that the model does not have, and wrong
    /// shapes.
    void check(const HuggingFaceMapping& mapping) const;
    /// The unit's whole row; padding is 0.
    void read_unit(const HuggingFaceMapping& mapping, int unit, std::span<float> unit_row) const;

  private:
    const SafetensorsTensor* find(const HuggingFaceMapping& mapping, const std::string& name) const;

    std::filesystem::path folder_;
    ModelConfig config_;
    std::vector<SafetensorsFile> files_;
};

/// Fills `unit_row` with unit number `unit`.
using UnitSource = std::function<void(int unit, std::span<float> unit_row)>;

/// A tokenizer's special token that ends a document.
struct EndOfText {
    int64_t id = 0;
    std::string text;
};

/// What export_model and import_model write besides the weights.
struct FolderOptions {
    DType dtype = DType::f32;
    std::filesystem::path tokenizer = {};  ///< copied as tokenizer.json; empty: none
    std::optional<EndOfText> end_of_text = std::nullopt;
};

/// Makes `folder` with config.json, model.safetensors, tokenizer.json and tokenizer_config.json for
/// transformers: complete or not at all. Throws UsageError when the folder exists and is not empty,
/// or when no Hugging Face family has this configuration.
void export_model(const std::filesystem::path& folder, const ModelConfig& config,
                  const UnitSource& source, const FolderOptions& options);

/// Makes `folder` with the model's files of a checkpoint (config.json, a file per unit with their
/// index, tokenizer.json): complete or not at all. Throws UsageError when the folder exists and is
/// not empty.
void import_model(const std::filesystem::path& folder, const ModelConfig& config,
                  const UnitSource& source, const FolderOptions& options);

}  // namespace lathe
