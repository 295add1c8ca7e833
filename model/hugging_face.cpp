#include "model/hugging_face.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "kernels/error.h"

namespace lathe {
namespace {

/// Which elements of a Lathe tensor a Hugging Face tensor holds, and how.
enum class Part {
    whole,
    vocabulary,   ///< the rows of tokens that exist
    query,        ///< rows of the packed qkv
    key,          ///<
    value,        ///<
    gate,         ///< first half of mlp.up's rows
    up,           ///< second half
    transposed,   ///< [in, out]
    interleaved,  ///< qkv packed head by head: [H, 3, D]
};

/// `theirs`.weight is `ours` or `ours`.weight, and `theirs`.bias is `ours`.bias, where the model
/// has it. "{}" is the layer.
struct Row {
    std::string_view theirs;
    std::string_view ours;
    Part part = Part::whole;
};

constexpr std::string_view kHead = "lm_head";

constexpr std::array kGpt2 = {
    Row{"wte", "embedding.tokens", Part::vocabulary},
    Row{"wpe", "embedding.positions"},
    Row{"h.{}.ln_1", "blocks.{}.attention_norm"},
    Row{"h.{}.attn.c_attn", "blocks.{}.attention.qkv", Part::transposed},
    Row{"h.{}.attn.c_proj", "blocks.{}.attention.output", Part::transposed},
    Row{"h.{}.ln_2", "blocks.{}.mlp_norm"},
    Row{"h.{}.mlp.c_fc", "blocks.{}.mlp.up", Part::transposed},
    Row{"h.{}.mlp.c_proj", "blocks.{}.mlp.down", Part::transposed},
    Row{"ln_f", "final_norm"},
    Row{kHead, "head", Part::vocabulary},
};

/// Qwen2 has the same names, and biases for query, key and value.
constexpr std::array kLlama = {
    Row{"embed_tokens", "embedding.tokens", Part::vocabulary},
    Row{"layers.{}.input_layernorm", "blocks.{}.attention_norm"},
    Row{"layers.{}.self_attn.q_proj", "blocks.{}.attention.qkv", Part::query},
    Row{"layers.{}.self_attn.k_proj", "blocks.{}.attention.qkv", Part::key},
    Row{"layers.{}.self_attn.v_proj", "blocks.{}.attention.qkv", Part::value},
    Row{"layers.{}.self_attn.o_proj", "blocks.{}.attention.output"},
    Row{"layers.{}.post_attention_layernorm", "blocks.{}.mlp_norm"},
    Row{"layers.{}.mlp.gate_proj", "blocks.{}.mlp.up", Part::gate},
    Row{"layers.{}.mlp.up_proj", "blocks.{}.mlp.up", Part::up},
    Row{"layers.{}.mlp.down_proj", "blocks.{}.mlp.down"},
    Row{"norm", "final_norm"},
    Row{kHead, "head", Part::vocabulary},
};

constexpr std::array kBloom = {
    Row{"word_embeddings", "embedding.tokens", Part::vocabulary},
    Row{"word_embeddings_layernorm", "embedding.norm"},
    Row{"h.{}.input_layernorm", "blocks.{}.attention_norm"},
    Row{"h.{}.self_attention.query_key_value", "blocks.{}.attention.qkv", Part::interleaved},
    Row{"h.{}.self_attention.dense", "blocks.{}.attention.output"},
    Row{"h.{}.post_attention_layernorm", "blocks.{}.mlp_norm"},
    Row{"h.{}.mlp.dense_h_to_4h", "blocks.{}.mlp.up"},
    Row{"h.{}.mlp.dense_4h_to_h", "blocks.{}.mlp.down"},
    Row{"ln_f", "final_norm"},
    Row{kHead, "head", Part::vocabulary},
};

/// Lathe's own names, each tensor as it is.
constexpr std::array kLathe = {
    Row{"embedding.tokens", "embedding.tokens", Part::vocabulary},
    Row{"embedding.positions", "embedding.positions"},
    Row{"embedding.norm", "embedding.norm"},
    Row{"blocks.{}.attention_norm", "blocks.{}.attention_norm"},
    Row{"blocks.{}.attention.qkv", "blocks.{}.attention.qkv"},
    Row{"blocks.{}.attention.output", "blocks.{}.attention.output"},
    Row{"blocks.{}.mlp_norm", "blocks.{}.mlp_norm"},
    Row{"blocks.{}.mlp.up", "blocks.{}.mlp.up"},
    Row{"blocks.{}.mlp.down", "blocks.{}.mlp.down"},
    Row{"final_norm", "final_norm"},
    Row{kHead, "head", Part::vocabulary},
};

struct FamilyNames {
    std::string_view prefix;
    std::span<const Row> rows;
};

FamilyNames names_of(Family family) {
    switch (family) {
        case Family::gpt2:
            return {"transformer.", kGpt2};
        case Family::llama:
        case Family::qwen2:
            return {"model.", kLlama};
        case Family::bloom:
            return {"transformer.", kBloom};
        case Family::lathe:
            return {"", kLathe};
    }
    fail("no such family");
}

/// `pattern` with "{}" replaced by the layer.
std::string at_layer(std::string_view pattern, int64_t layer) {
    std::string name(pattern);
    if (const size_t place = name.find("{}"); place != std::string::npos) {
        name.replace(place, 2, std::to_string(layer));
    }
    return name;
}

/// The part of `source` that `part` names.
HuggingFaceTensor describe(const ModelConfig& config, const ParamTensor& source, Part part) {
    HuggingFaceTensor tensor;
    tensor.source = source;
    tensor.rows = source.shape[0];
    tensor.columns = source.shape.rank() == 2 ? source.shape[1] : 1;
    const int64_t query_rows = config.heads * config.head_size();
    const int64_t key_rows = config.kv_heads * config.head_size();
    const auto select = [&](int64_t first, int64_t rows) {
        tensor.first_row = first;
        tensor.rows = rows;
    };
    switch (part) {
        case Part::whole:
            break;
        case Part::vocabulary:
            select(0, config.vocabulary_size);
            break;
        case Part::query:
            select(0, query_rows);
            break;
        case Part::key:
            select(query_rows, key_rows);
            break;
        case Part::value:
            select(query_rows + key_rows, key_rows);
            break;
        case Part::gate:
            select(0, config.feed_forward);
            break;
        case Part::up:
            select(config.feed_forward, config.feed_forward);
            break;
        case Part::transposed:
            tensor.transposed = source.shape.rank() == 2;
            break;
        case Part::interleaved:
            tensor.interleaved_heads = config.heads;
            break;
    }
    tensor.shape = {tensor.rows};
    if (source.shape.rank() == 2) {
        tensor.shape.push_back(tensor.columns);
    }
    if (tensor.transposed) {
        std::swap(tensor.shape[0], tensor.shape[1]);
    }
    return tensor;
}

/// Calls run(source, stored, count) for each run of elements that follow one another both in the
/// source tensor (element index within the unit) and in the stored one. Not for transposed ones.
template <typename Run>
void for_each_run(const HuggingFaceTensor& tensor, Run run) {
    const int64_t first = tensor.source.offset + tensor.first_row * tensor.columns;
    if (tensor.interleaved_heads == 0) {
        run(first, int64_t{0}, tensor.size());
        return;
    }
    const int64_t heads = tensor.interleaved_heads;
    const int64_t count = tensor.size() / (3 * heads);
    for (int64_t head = 0; head < heads; ++head) {
        for (int64_t part = 0; part < 3; ++part) {
            run(first + (part * heads + head) * count, (head * 3 + part) * count, count);
        }
    }
}

/// target[c, r] = source[r, c], in blocks that stay in the cache.
/// target [columns, rows] = source [rows, columns] transposed: by blocks whose lines are read and
/// written whole, one after another, as lines a multiple of 4 KiB apart share a set of the cache.
void transpose(std::span<const float> source, int64_t rows, int64_t columns,
               std::span<float> target) {
    constexpr int64_t kBlock = 16;
    float block[kBlock][kBlock] = {};
    for (int64_t row = 0; row < rows; row += kBlock) {
        const int64_t height = std::min(kBlock, rows - row);
        for (int64_t column = 0; column < columns; column += kBlock) {
            const int64_t width = std::min(kBlock, columns - column);
            for (int64_t r = 0; r < height; ++r) {
                std::copy_n(source.data() + (row + r) * columns + column, width, block[r]);
            }
            for (int64_t c = 0; c < width; ++c) {
                float* to = target.data() + (column + c) * rows + row;
                for (int64_t r = 0; r < height; ++r) {
                    to[r] = block[r][c];
                }
            }
        }
    }
}

template <typename Element>
std::span<Element> part_of(std::span<Element> values, int64_t first, int64_t count) {
    return values.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
}

void convert(std::span<const float> values, DType dtype, std::byte* bytes) {
    if (dtype == DType::f32) {
        std::memcpy(bytes, values.data(), values.size_bytes());
        return;
    }
    LATHE_CHECK(dtype == DType::bf16, "weights are stored as f32 or bf16, not {}", name_of(dtype));
    for (size_t i = 0; i < values.size(); ++i) {
        const bf16 rounded(values[i]);
        std::memcpy(bytes + i * sizeof(rounded), &rounded, sizeof(rounded));
    }
}

}  // namespace

HuggingFaceMapping::HuggingFaceMapping(const ModelConfig& config, const ParamLayout& layout)
    : family_(family_of(config)),
      tied_(config.tied_embeddings),
      units_(static_cast<size_t>(layout.num_units())) {
    for (const ParamUnit& unit : layout.units()) {
        unit_sizes_.push_back(unit.size);
    }
    const FamilyNames names = names_of(family_);
    const auto add = [&](const Row& row, int64_t layer) {
        const std::string_view used_prefix = row.theirs == kHead ? "" : names.prefix;
        const std::string theirs = std::string(used_prefix) + at_layer(row.theirs, layer);
        const std::string ours = at_layer(row.ours, layer);
        using Pair = std::pair<std::string_view, std::string_view>;
        for (const auto& [our_suffix, their_suffix] :
             {Pair{"", ".weight"}, Pair{".weight", ".weight"}, Pair{".bias", ".bias"}}) {
            if (const ParamTensor* source = layout.find(ours + std::string(our_suffix))) {
                HuggingFaceTensor tensor = describe(config, *source, row.part);
                tensor.name = theirs + std::string(their_suffix);
                units_[static_cast<size_t>(source->unit)].push_back(std::move(tensor));
            }
        }
    };
    for (const Row& row : names.rows) {
        const bool per_layer = row.theirs.find("{}") != std::string_view::npos;
        for (int64_t layer = 0; layer < (per_layer ? config.layers : 1); ++layer) {
            add(row, layer);
        }
    }
}

const std::vector<HuggingFaceTensor>& HuggingFaceMapping::tensors_of_unit(int unit) const {
    return units_.at(static_cast<size_t>(unit));
}

std::string_view HuggingFaceMapping::prefix() const { return names_of(family_).prefix; }

bool HuggingFaceMapping::is_ignorable(std::string_view name) const {
    switch (family_) {
        case Family::gpt2:
            if (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")) {
                return true;
            }
            break;
        case Family::llama:
        case Family::qwen2:
            if (name.ends_with(".rotary_emb.inv_freq")) {
                return true;
            }
            break;
        case Family::bloom:
        case Family::lathe:
            break;
    }
    return tied_ && name == "lm_head.weight";
}

void to_hugging_face(const HuggingFaceTensor& tensor, std::span<const float> unit_row, DType dtype,
                     std::span<std::byte> bytes) {
    const int64_t element_bytes = size_of(dtype);
    LATHE_CHECK(std::ssize(bytes) == tensor.size() * element_bytes,
                "tensor '{}' takes {} bytes, not {}", tensor.name, tensor.size() * element_bytes,
                bytes.size());
    if (tensor.transposed) {
        std::vector<float> values(static_cast<size_t>(tensor.size()));
        transpose(part_of(unit_row, tensor.source.offset, tensor.size()), tensor.rows,
                  tensor.columns, values);
        convert(values, dtype, bytes.data());
        return;
    }
    for_each_run(tensor, [&](int64_t source, int64_t stored, int64_t count) {
        convert(part_of(unit_row, source, count), dtype, bytes.data() + stored * element_bytes);
    });
}

void from_hugging_face(const HuggingFaceTensor& tensor, const SafetensorsTensor& stored,
                       std::span<float> unit_row) {
    LATHE_CHECK_USAGE(stored.shape == tensor.shape, "tensor '{}' has shape {}, not {}", stored.name,
                      text_of_shape(stored.shape), text_of_shape(tensor.shape));
    if (tensor.transposed) {
        std::vector<float> values(static_cast<size_t>(tensor.size()));
        read_elements(stored, 0, values);
        transpose(values, tensor.columns, tensor.rows,
                  part_of(unit_row, tensor.source.offset, tensor.size()));
        return;
    }
    for_each_run(tensor, [&](int64_t source, int64_t first, int64_t count) {
        read_elements(stored, first, part_of(unit_row, source, count));
    });
}

}  // namespace lathe
