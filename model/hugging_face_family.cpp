#include "model/hugging_face_family.h"

#include "kernels/error.h"

namespace lathe {
namespace {

constexpr std::array kAnyGelu = {MlpKind::gelu_tanh, MlpKind::gelu_exact};
constexpr std::array kTanhGelu = {MlpKind::gelu_tanh};
constexpr std::array kSwiglu = {MlpKind::swiglu};
constexpr std::array kShapes = {
    FamilyShape{Family::gpt2, NormKind::layernorm, Positions::learned, kAnyGelu, Biases::all, false,
                false, false, InitRule::scaled_residual, true},
    FamilyShape{Family::llama, NormKind::rmsnorm, Positions::rotary, kSwiglu, Biases::none, false,
                true, false, InitRule::plain, false},
    FamilyShape{Family::qwen2, NormKind::rmsnorm, Positions::rotary, kSwiglu, Biases::qkv, false,
                true, false, InitRule::plain, false},
    FamilyShape{Family::bloom, NormKind::layernorm, Positions::alibi, kTanhGelu, Biases::all, true,
                false, true, InitRule::plain, true}};

/// "field = value (GPT-2 has ...)" for each field that keeps `config` out of the family.
std::vector<std::string> mismatches(const FamilyShape& shape, const ModelConfig& config) {
    std::vector<std::string> found;
    const auto compare = [&](std::string_view field, bool same, const std::string& value,
                             const std::string& theirs) {
        if (!same) {
            found.push_back(
                fmt::format("{} = {} ({} has {})", field, value, name_of(shape.family), theirs));
        }
    };
    const auto yes_no = [](bool value) { return std::string(value ? "true" : "false"); };
    compare("positions", config.positions == shape.positions, text_of(kPositions, config.positions),
            text_of(kPositions, shape.positions));
    compare("norm", config.norm == shape.norm, text_of(kNorms, config.norm),
            text_of(kNorms, shape.norm));
    compare("mlp", std::ranges::find(shape.mlps, config.mlp) != shape.mlps.end(),
            text_of(kMlps, config.mlp), text_of(kMlps, shape.mlps.front()));
    compare("biases", config.biases == shape.biases, text_of(kBiases, config.biases),
            text_of(kBiases, shape.biases));
    compare("embedding-norm", config.embedding_norm == shape.embedding_norm,
            yes_no(config.embedding_norm), yes_no(shape.embedding_norm));
    compare("kv-heads", shape.grouped_query || config.kv_heads == config.heads,
            std::to_string(config.kv_heads), fmt::format("kv-heads = heads = {}", config.heads));
    compare("feed-forward", !shape.fixed_feed_forward || config.feed_forward == 4 * config.channels,
            std::to_string(config.feed_forward),
            fmt::format("4 x channels = {}", 4 * config.channels));
    return found;
}

}  // namespace

const FamilyShape& shape_of(Family family) {
    return *std::ranges::find(kShapes, family, &FamilyShape::family);
}

std::string_view name_of(Family family) {
    return std::ranges::find(kFamilies, family, &Name<Family>::value)->name;
}

Family family_of(const ModelConfig& config) {
    for (const FamilyShape& shape : kShapes) {
        if (mismatches(shape, config).empty()) {
            return shape.family;
        }
    }
    return Family::lathe;
}

void check_exportable(const ModelConfig& config) {
    std::vector<std::string> nearest;
    for (const FamilyShape& shape : kShapes) {
        std::vector<std::string> found = mismatches(shape, config);
        if (found.empty()) {
            return;
        }
        if (nearest.empty() || found.size() < nearest.size()) {
            nearest = std::move(found);
        }
    }
    fail_usage("{}: no Hugging Face family has this model, so it cannot be exported",
               nearest.front());
}

}  // namespace lathe
