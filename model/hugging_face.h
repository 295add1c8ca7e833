// Hugging Face's names and places for Lathe's parameters, for GPT-2, Llama, Qwen2 and BLOOM, and
// their config.json.
//
// A Hugging Face tensor is a part of one Lathe tensor: a range of its rows (query, key, value;
// gate, up), its transpose (GPT-2 stores linear weights [in, out]), or its rows in another order
// (BLOOM packs qkv head by head). One table per family says which; one engine converts both ways.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"
#include "model/config.h"
#include "model/param_layout.h"
#include "model/safetensors.h"

namespace lathe {

/// `lathe` is every ModelConfig that no Hugging Face family has: Lathe's own names and its own
/// config.json, for checkpoints only.
enum class Family { gpt2, llama, qwen2, bloom, lathe };
std::string_view name_of(Family family);  ///< the `model_type` of config.json

/// The family that has this configuration as a point, or Family::lathe.
Family family_of(const ModelConfig& config);
/// Throws UsageError naming the field that keeps the nearest family from having this configuration.
void check_exportable(const ModelConfig& config);

/// One tensor of a Hugging Face file, and where its elements are in Lathe.
struct HuggingFaceTensor {
    std::string name;            ///< with the family's prefix: "model.layers.0..."
    std::vector<int64_t> shape;  ///< vocabulary padding left out
    ParamTensor source;          ///< the Lathe tensor
    int64_t first_row = 0;       ///< of the source; rows follow one another
    int64_t rows = 0;
    int64_t columns = 1;
    bool transposed = false;        ///< stored [columns, rows]
    int64_t interleaved_heads = 0;  ///< not 0: row (h, part, d) of [H, 3, D] is source row
                                    ///< (part, h, d)

    int64_t size() const { return rows * columns; }
};

/// The parameters of one model, in Hugging Face's terms. Keeps no reference to its arguments.
class HuggingFaceMapping {
  public:
    HuggingFaceMapping(const ModelConfig& config, const ParamLayout& layout);

    Family family() const { return family_; }
    int num_units() const { return static_cast<int>(units_.size()); }
    /// A tied head has no tensor of its own. In order of use.
    const std::vector<HuggingFaceTensor>& tensors_of_unit(int unit) const;
    /// Elements of the unit's row in Lathe, padding included.
    int64_t unit_size(int unit) const { return unit_sizes_[static_cast<size_t>(unit)]; }
    /// What stands before the layers' names, and may be absent in files: "transformer." or "model."
    std::string_view prefix() const;
    /// Tensors that some files carry and no model needs (masks, frequencies, a tied head's copy).
    bool is_ignorable(std::string_view name) const;

  private:
    Family family_;
    bool tied_ = false;
    std::vector<std::vector<HuggingFaceTensor>> units_;
    std::vector<int64_t> unit_sizes_;
};

/// Elements of `tensor` from the unit's row (f32), converted to `dtype` (f32 or bf16, rounded to
/// nearest even). `bytes` holds tensor.size() elements.
void to_hugging_face(const HuggingFaceTensor& tensor, std::span<const float> unit_row, DType dtype,
                     std::span<std::byte> bytes);
/// The reverse. `stored` must have the tensor's shape and be of F32, BF16, F16 or F64. Writes this
/// tensor's elements of the row only: padding is the caller's.
void from_hugging_face(const HuggingFaceTensor& tensor, const SafetensorsTensor& stored,
                       std::span<float> unit_row);

/// The text of config.json. `end_of_text` is the tokenizer's id, written as bos and eos token.
/// Any configuration can be written (Family::lathe included).
std::string config_json(const ModelConfig& config, DType dtype,
                        std::optional<int64_t> end_of_text = std::nullopt);
/// Reads any config.json of the four families, or what config_json wrote. Throws UsageError naming
/// the file, the field and its value for whatever Lathe's models do not have: rotary scaling,
/// sliding windows, another activation, ...
ModelConfig read_config_json(const std::filesystem::path& path);

}  // namespace lathe
