#include "model/hugging_face_folder.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "kernels/error.h"
#include "kernels/files.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr std::string_view kWholeFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
/// Tools that read the format ask for this.
const std::map<std::string, std::string> kMetadata = {{"format", "pt"}};

SafetensorsTensor declaration(const HuggingFaceTensor& tensor, DType dtype) {
    return {tensor.name, std::string(safetensors_dtype(dtype)), tensor.shape, {}};
}

/// Writes a unit's tensors as numbers `first`... of the file.
void write_unit(SafetensorsWriter& writer, size_t first, const HuggingFaceMapping& mapping,
                int unit, std::span<const float> unit_row, DType dtype) {
    LATHE_CHECK(std::ssize(unit_row) == mapping.unit_size(unit), "unit {} has {} elements, not {}",
                unit, mapping.unit_size(unit), unit_row.size());
    std::vector<std::byte> bytes;
    for (const HuggingFaceTensor& tensor : mapping.tensors_of_unit(unit)) {
        bytes.resize(static_cast<size_t>(tensor.size() * size_of(dtype)));
        to_hugging_face(tensor, unit_row, dtype, bytes);
        writer.write(first++, 0, bytes);
    }
}

/// The files that an index names, each once.
std::set<std::string> files_of_index(const fs::path& path) {
    ordered_json index;
    try {
        index = ordered_json::parse(read_file(path));
    } catch (const ordered_json::exception& error) {
        fail_usage("{}: is no valid JSON ({})", path.string(), error.what());
    }
    LATHE_CHECK_USAGE(index.is_object() && index.contains("weight_map") &&
                          index["weight_map"].is_object() && !index["weight_map"].empty(),
                      "{}: has no 'weight_map' of tensors to files", path.string());
    std::set<std::string> files;
    for (const auto& [tensor, file] : index["weight_map"].items()) {
        LATHE_CHECK_USAGE(file.is_string() && fs::path(file.get<std::string>()).filename() ==
                                                  fs::path(file.get<std::string>()),
                          "{}: the file of tensor '{}' is {}, which is no plain file name",
                          path.string(), tensor, file.dump());
        files.insert(file.get<std::string>());
    }
    return files;
}

}  // namespace

std::string unit_file_name(int unit, int num_units) {
    return fmt::format("model-{:05}-of-{:05}.safetensors", unit + 1, num_units);
}

void write_unit_file(const fs::path& folder, const HuggingFaceMapping& mapping, int unit,
                     std::span<const float> unit_row, DType dtype) {
    std::vector<SafetensorsTensor> tensors;
    for (const HuggingFaceTensor& tensor : mapping.tensors_of_unit(unit)) {
        tensors.push_back(declaration(tensor, dtype));
    }
    SafetensorsWriter writer(folder / unit_file_name(unit, mapping.num_units()), tensors,
                             kMetadata);
    write_unit(writer, 0, mapping, unit, unit_row, dtype);
    writer.finish();
}

void write_index_file(const fs::path& folder, const HuggingFaceMapping& mapping, DType dtype) {
    int64_t total_bytes = 0;
    ordered_json files = ordered_json::object();
    for (int unit = 0; unit < mapping.num_units(); ++unit) {
        for (const HuggingFaceTensor& tensor : mapping.tensors_of_unit(unit)) {
            files[tensor.name] = unit_file_name(unit, mapping.num_units());
            total_bytes += tensor.size() * size_of(dtype);
        }
    }
    ordered_json index;
    index["metadata"]["total_size"] = total_bytes;
    index["weight_map"] = std::move(files);
    write_file(folder / kIndexFile, index.dump(2) + "\n");
}

void write_config_file(const fs::path& folder, const ModelConfig& config, DType dtype,
                       std::optional<int64_t> end_of_text) {
    write_file(folder / "config.json", config_json(config, dtype, end_of_text));
}

HuggingFaceFolder::HuggingFaceFolder(const fs::path& folder) : folder_(folder) {
    LATHE_CHECK_USAGE(fs::is_directory(folder), "{}: is no folder", folder.string());
    config_ = read_config_json(folder / "config.json");
    if (fs::exists(folder / kWholeFile)) {
        files_.emplace_back(folder / kWholeFile);
        return;
    }
    LATHE_CHECK_USAGE(!fs::exists(folder / "pytorch_model.bin"),
                      "{}: has pytorch_model.bin but no {}; save the model as safetensors",
                      folder.string(), kWholeFile);
    LATHE_CHECK_USAGE(fs::exists(folder / kIndexFile), "{}: has neither {} nor {}", folder.string(),
                      kWholeFile, kIndexFile);
    for (const std::string& name : files_of_index(folder / kIndexFile)) {
        LATHE_CHECK_USAGE(fs::exists(folder / name), "{}: names the file '{}', which is absent",
                          (folder / kIndexFile).string(), name);
        files_.emplace_back(folder / name);
    }
}

DType HuggingFaceFolder::stored_dtype() const {
    for (const SafetensorsFile& file : files_) {
        for (const SafetensorsTensor& tensor : file.tensors()) {
            if (tensor.dtype != safetensors_dtype(DType::bf16)) {
                return DType::f32;
            }
        }
    }
    return DType::bf16;
}

const SafetensorsTensor* HuggingFaceFolder::find(const HuggingFaceMapping& mapping,
                                                 const std::string& name) const {
    std::string_view bare = name;
    if (bare.starts_with(mapping.prefix())) {
        bare.remove_prefix(mapping.prefix().size());
    }
    for (const SafetensorsFile& file : files_) {
        for (const std::string_view spelling : {std::string_view(name), bare}) {
            if (const SafetensorsTensor* tensor = file.find(spelling)) {
                return tensor;
            }
        }
    }
    return nullptr;
}

void HuggingFaceFolder::check(const HuggingFaceMapping& mapping) const {
    std::set<const SafetensorsTensor*> used;
    for (int unit = 0; unit < mapping.num_units(); ++unit) {
        for (const HuggingFaceTensor& tensor : mapping.tensors_of_unit(unit)) {
            const SafetensorsTensor* stored = find(mapping, tensor.name);
            LATHE_CHECK_USAGE(stored != nullptr, "{}: tensor '{}' of the model is missing",
                              folder_.string(), tensor.name);
            LATHE_CHECK_USAGE(stored->shape == tensor.shape,
                              "{}: tensor '{}' has shape {}; config.json makes it {}",
                              folder_.string(), stored->name, text_of_shape(stored->shape),
                              text_of_shape(tensor.shape));
            used.insert(stored);
        }
    }
    for (const SafetensorsFile& file : files_) {
        for (const SafetensorsTensor& stored : file.tensors()) {
            LATHE_CHECK_USAGE(used.contains(&stored) || mapping.is_ignorable(stored.name),
                              "{}: tensor '{}' is none of the model's, or stands there twice",
                              file.path().string(), stored.name);
        }
    }
}

void HuggingFaceFolder::read_unit(const HuggingFaceMapping& mapping, int unit,
                                  std::span<float> unit_row) const {
    LATHE_CHECK(std::ssize(unit_row) == mapping.unit_size(unit), "unit {} has {} elements, not {}",
                unit, mapping.unit_size(unit), unit_row.size());
    std::ranges::fill(unit_row, 0.0F);
    for (const HuggingFaceTensor& tensor : mapping.tensors_of_unit(unit)) {
        const SafetensorsTensor* stored = find(mapping, tensor.name);
        LATHE_CHECK_USAGE(stored != nullptr, "{}: tensor '{}' of the model is missing",
                          folder_.string(), tensor.name);
        try {
            from_hugging_face(tensor, *stored, unit_row);
        } catch (const UsageError& error) {
            fail_usage("{}: {}", folder_.string(), error.what());
        }
    }
}

namespace {

/// config.json and tokenizer.json.
void write_companions(const fs::path& folder, const ModelConfig& config,
                      const FolderOptions& options) {
    const std::optional<int64_t> end_of_text =
        options.end_of_text ? std::optional(options.end_of_text->id) : std::nullopt;
    write_config_file(folder, config, options.dtype, end_of_text);
    if (!options.tokenizer.empty()) {
        write_file(folder / "tokenizer.json", read_file(options.tokenizer));
    }
}

/// Without it transformers would choose a class by the family, and some change the tokenizer.
void write_tokenizer_config(const fs::path& folder, const ModelConfig& config,
                            const FolderOptions& options) {
    ordered_json json;
    json["tokenizer_class"] = "PreTrainedTokenizerFast";
    json["model_max_length"] = config.sequence_length;
    json["clean_up_tokenization_spaces"] = false;
    if (options.end_of_text) {
        json["bos_token"] = options.end_of_text->text;
        json["eos_token"] = options.end_of_text->text;
    }
    write_file(folder / "tokenizer_config.json", json.dump(2) + "\n");
}

void write_whole_file(const fs::path& path, const HuggingFaceMapping& mapping,
                      const UnitSource& source, DType dtype) {
    std::vector<SafetensorsTensor> tensors;
    for (int unit = 0; unit < mapping.num_units(); ++unit) {
        for (const HuggingFaceTensor& tensor : mapping.tensors_of_unit(unit)) {
            tensors.push_back(declaration(tensor, dtype));
        }
    }
    SafetensorsWriter writer(path, tensors, kMetadata);
    size_t first = 0;
    for (int unit = 0; unit < mapping.num_units(); ++unit) {
        std::vector<float> row(static_cast<size_t>(mapping.unit_size(unit)));
        source(unit, row);
        write_unit(writer, first, mapping, unit, row, dtype);
        first += mapping.tensors_of_unit(unit).size();
    }
    writer.finish();
}

}  // namespace

void export_model(const fs::path& folder, const ModelConfig& config, const UnitSource& source,
                  const FolderOptions& options) {
    check_exportable(config);
    const HuggingFaceMapping mapping(config, ParamLayout(config));
    FolderWriter output(folder);
    write_companions(output.path(), config, options);
    if (!options.tokenizer.empty()) {
        write_tokenizer_config(output.path(), config, options);
    }
    write_whole_file(output.path() / kWholeFile, mapping, source, options.dtype);
    output.finish();
}

void import_model(const fs::path& folder, const ModelConfig& config, const UnitSource& source,
                  const FolderOptions& options) {
    const HuggingFaceMapping mapping(config, ParamLayout(config));
    FolderWriter output(folder);
    write_companions(output.path(), config, options);
    for (int unit = 0; unit < mapping.num_units(); ++unit) {
        std::vector<float> row(static_cast<size_t>(mapping.unit_size(unit)));
        source(unit, row);
        write_unit_file(output.path(), mapping, unit, row, options.dtype);
    }
    write_index_file(output.path(), mapping, options.dtype);
    output.finish();
}

}  // namespace lathe
