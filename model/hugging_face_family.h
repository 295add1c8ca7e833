// What the files of hugging_face* share: the families as restrictions of ModelConfig, and the names
// of its choices. Not for others.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>

#include "model/hugging_face.h"

namespace lathe {

template <typename Enum>
struct Name {
    Enum value;
    std::string_view name;
};

inline constexpr std::array kFamilies = {
    Name<Family>{Family::gpt2, "gpt2"}, Name<Family>{Family::llama, "llama"},
    Name<Family>{Family::qwen2, "qwen2"}, Name<Family>{Family::bloom, "bloom"},
    Name<Family>{Family::lathe, "lathe"}};
inline constexpr std::array kNorms = {Name<NormKind>{NormKind::layernorm, "layernorm"},
                                      Name<NormKind>{NormKind::rmsnorm, "rmsnorm"}};
inline constexpr std::array kPositions = {Name<Positions>{Positions::learned, "learned"},
                                          Name<Positions>{Positions::rotary, "rotary"},
                                          Name<Positions>{Positions::alibi, "alibi"}};
inline constexpr std::array kMlps = {Name<MlpKind>{MlpKind::gelu_exact, "gelu-exact"},
                                     Name<MlpKind>{MlpKind::gelu_tanh, "gelu-tanh"},
                                     Name<MlpKind>{MlpKind::swiglu, "swiglu"}};
inline constexpr std::array kBiases = {Name<Biases>{Biases::none, "none"},
                                       Name<Biases>{Biases::qkv, "qkv"},
                                       Name<Biases>{Biases::all, "all"}};
inline constexpr std::array kInitRules = {
    Name<InitRule>{InitRule::plain, "plain"},
    Name<InitRule>{InitRule::scaled_residual, "scaled-residual"}};

template <typename Names, typename Enum>
std::string text_of(const Names& names, Enum value) {
    const auto found = std::ranges::find(names, value, &Name<Enum>::value);
    return std::string(found == names.end() ? "?" : found->name);
}

/// The restrictions that make a family a part of ModelConfig's space.
struct FamilyShape {
    Family family;
    NormKind norm;
    Positions positions;
    std::span<const MlpKind> mlps;
    Biases biases;
    bool embedding_norm;
    bool grouped_query;
    bool fixed_feed_forward;  ///< 4 C
    InitRule init_rule;       ///< its habit, not a restriction
    bool tied;                ///< what an absent tie_word_embeddings means
};

const FamilyShape& shape_of(Family family);  ///< not of Family::lathe

}  // namespace lathe
