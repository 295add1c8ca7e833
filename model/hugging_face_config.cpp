// config.json, both ways.
#include <array>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "kernels/files.h"
#include "model/hugging_face_family.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

/// GPT-2's spellings of its activation that Lathe has.
constexpr std::array kGpt2Activations = {Name<MlpKind>{MlpKind::gelu_tanh, "gelu_new"},
                                         Name<MlpKind>{MlpKind::gelu_exact, "gelu"},
                                         Name<MlpKind>{MlpKind::gelu_tanh, "gelu_pytorch_tanh"}};

/// Fields of one config.json, read with clear errors.
class ConfigReader {
  public:
    explicit ConfigReader(const std::filesystem::path& path) : path_(path) {
        try {
            json_ = ordered_json::parse(read_file(path));
        } catch (const ordered_json::exception& error) {
            fail_usage("{}: is no valid JSON ({})", path.string(), error.what());
        }
        LATHE_CHECK_USAGE(json_.is_object(), "{}: is no JSON object", path.string());
    }

    /// The first of these fields that is there and not null, or nullptr.
    const ordered_json* find(std::initializer_list<const char*> fields) const {
        for (const char* field : fields) {
            if (const auto found = json_.find(field); found != json_.end() && !found->is_null()) {
                return &*found;
            }
        }
        return nullptr;
    }

    int64_t integer(std::initializer_list<const char*> fields,
                    std::optional<int64_t> absent = {}) const {
        const ordered_json* value = required(fields, absent.has_value());
        if (value == nullptr) {
            return *absent;
        }
        constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
        LATHE_CHECK_USAGE(value->is_number_unsigned() &&
                              value->get<uint64_t>() <= static_cast<uint64_t>(kLargest),
                          "{}: {} = {}: must be a whole number up to {}", path_.string(),
                          *fields.begin(), value->dump(), kLargest);
        return value->get<int64_t>();
    }

    double number(std::initializer_list<const char*> fields,
                  std::optional<double> absent = {}) const {
        const ordered_json* value = required(fields, absent.has_value());
        if (value == nullptr) {
            return *absent;
        }
        LATHE_CHECK_USAGE(value->is_number(), "{}: {} = {}: must be a number", path_.string(),
                          *fields.begin(), value->dump());
        return value->get<double>();
    }

    bool boolean(const char* field, bool absent) const {
        const ordered_json* value = find({field});
        if (value == nullptr) {
            return absent;
        }
        LATHE_CHECK_USAGE(value->is_boolean(), "{}: {} = {}: must be true or false", path_.string(),
                          field, value->dump());
        return value->get<bool>();
    }

    /// The value of `names` that the field spells.
    template <typename Enum, size_t kCount>
    Enum choice(const char* field, const std::array<Name<Enum>, kCount>& names,
                std::optional<Enum> absent = {}) const {
        const ordered_json* value = required({field}, absent.has_value());
        if (value == nullptr) {
            return *absent;
        }
        std::string possible;
        for (const auto& [choice, name] : names) {
            if (*value == name) {
                return choice;
            }
            possible += fmt::format("{}{}", possible.empty() ? "" : ", ", name);
        }
        fail_usage("{}: {} = {}: Lathe has {}", path_.string(), field, value->dump(), possible);
    }

    /// Refuses any value but this one (an absent field has it).
    void only(const char* field, const ordered_json& allowed) const {
        const ordered_json* value = find({field});
        LATHE_CHECK_USAGE(value == nullptr || *value == allowed, "{}: {} = {}: Lathe has only {}",
                          path_.string(), field, value->dump(), allowed.dump());
    }

    const std::filesystem::path& path() const { return path_; }

  private:
    const ordered_json* required(std::initializer_list<const char*> fields, bool optional) const {
        const ordered_json* value = find(fields);
        LATHE_CHECK_USAGE(value != nullptr || optional, "{}: has no {}", path_.string(),
                          *fields.begin());
        return value;
    }

    std::filesystem::path path_;
    ordered_json json_;
};

void read_gpt2(const ConfigReader& file, ModelConfig& config) {
    config.sequence_length =
        file.integer({"n_positions", "n_ctx", "max_position_embeddings"}, 1024);
    config.layers = file.integer({"n_layer", "num_hidden_layers"});
    config.channels = file.integer({"n_embd", "hidden_size"});
    config.heads = file.integer({"n_head", "num_attention_heads"});
    config.kv_heads = config.heads;
    config.feed_forward = file.integer({"n_inner"}, 4 * config.channels);
    config.norm_epsilon = file.number({"layer_norm_epsilon"}, 1e-5);
    config.mlp = file.choice<MlpKind>("activation_function", kGpt2Activations, MlpKind::gelu_tanh);
    file.only("scale_attn_weights", true);
    file.only("scale_attn_by_inverse_layer_idx", false);
    file.only("add_cross_attention", false);
}

void read_rotary(const ConfigReader& file, ModelConfig& config) {
    config.rotary_theta = file.number({"rope_theta"}, 10000.0);
    file.only("partial_rotary_factor", 1.0);
    // Either an object of an older file that scales, or the newer one that holds everything.
    for (const char* field : {"rope_scaling", "rope_parameters"}) {
        const ordered_json* rope = file.find({field});
        if (rope == nullptr) {
            continue;
        }
        LATHE_CHECK_USAGE(rope->is_object(), "{}: {} = {}: must be an object", file.path().string(),
                          field, rope->dump());
        for (const auto& [key, value] : rope->items()) {
            if (key == "rope_theta" && value.is_number()) {
                config.rotary_theta = value.get<double>();
                continue;
            }
            const bool plain = ((key == "rope_type" || key == "type") && value == "default") ||
                               (key == "partial_rotary_factor" && value == 1.0);
            LATHE_CHECK_USAGE(plain, "{}: {}.{} = {}: Lathe has plain rotary positions only",
                              file.path().string(), field, key, value.dump());
        }
    }
}

void read_llama(const ConfigReader& file, ModelConfig& config, Family family) {
    config.sequence_length =
        file.integer({"max_position_embeddings"}, family == Family::llama ? 2048 : 32768);
    config.layers = file.integer({"num_hidden_layers"});
    config.channels = file.integer({"hidden_size"});
    config.heads = file.integer({"num_attention_heads"});
    config.kv_heads = file.integer({"num_key_value_heads"}, config.heads);
    config.feed_forward = file.integer({"intermediate_size"});
    config.norm_epsilon = file.number({"rms_norm_eps"}, 1e-6);
    config.mlp = MlpKind::swiglu;
    file.only("hidden_act", "silu");
    read_rotary(file, config);
    if (config.heads > 0) {
        file.only("head_dim", config.channels / config.heads);
    }
    if (family == Family::llama) {
        file.only("attention_bias", false);
        file.only("mlp_bias", false);
    } else {
        file.only("use_sliding_window", false);
    }
    if (const ordered_json* types = file.find({"layer_types"})) {
        for (const ordered_json& type : *types) {
            LATHE_CHECK_USAGE(type == "full_attention",
                              "{}: layer_types has {}: Lathe has only full_attention",
                              file.path().string(), type.dump());
        }
    }
}

void read_bloom(const ConfigReader& file, ModelConfig& config) {
    config.sequence_length = file.integer({"seq_length"}, 2048);
    config.layers = file.integer({"n_layer", "num_hidden_layers"});
    // As transformers, which lets the old name win.
    config.channels = file.integer({"n_embed", "hidden_size"});
    config.heads = file.integer({"n_head", "num_attention_heads"});
    config.kv_heads = config.heads;
    config.feed_forward = 4 * config.channels;
    config.norm_epsilon = file.number({"layer_norm_epsilon"}, 1e-5);
    config.mlp = MlpKind::gelu_tanh;
    file.only("apply_residual_connection_post_layernorm", false);
}

void read_lathe(const ConfigReader& file, ModelConfig& config) {
    config.sequence_length = file.integer({"sequence_length"});
    config.layers = file.integer({"layers"});
    config.channels = file.integer({"channels"});
    config.heads = file.integer({"heads"});
    config.kv_heads = file.integer({"kv_heads"});
    config.feed_forward = file.integer({"feed_forward"});
    config.norm = file.choice<NormKind>("norm", kNorms);
    config.norm_epsilon = file.number({"norm_epsilon"});
    config.positions = file.choice<Positions>("positions", kPositions);
    config.rotary_theta = file.number({"rotary_theta"});
    config.mlp = file.choice<MlpKind>("mlp", kMlps);
    config.biases = file.choice<Biases>("biases", kBiases);
    config.embedding_norm = file.boolean("embedding_norm", false);
}

void write_gpt2(const ModelConfig& config, ordered_json& json) {
    json["n_positions"] = config.sequence_length;
    json["n_embd"] = config.channels;
    json["n_layer"] = config.layers;
    json["n_head"] = config.heads;
    json["n_inner"] = config.feed_forward;
    json["activation_function"] = text_of(kGpt2Activations, config.mlp);
    json["layer_norm_epsilon"] = config.norm_epsilon;
}

void write_llama(const ModelConfig& config, ordered_json& json) {
    json["max_position_embeddings"] = config.sequence_length;
    json["hidden_size"] = config.channels;
    json["intermediate_size"] = config.feed_forward;
    json["num_hidden_layers"] = config.layers;
    json["num_attention_heads"] = config.heads;
    json["num_key_value_heads"] = config.kv_heads;
    json["hidden_act"] = "silu";
    json["rms_norm_eps"] = config.norm_epsilon;
    // The older and the newer spelling.
    json["rope_theta"] = config.rotary_theta;
    json["rope_parameters"] = {{"rope_theta", config.rotary_theta}, {"rope_type", "default"}};
}

void write_bloom(const ModelConfig& config, ordered_json& json) {
    json["seq_length"] = config.sequence_length;
    json["hidden_size"] = config.channels;
    json["n_layer"] = config.layers;
    json["n_head"] = config.heads;
    json["layer_norm_epsilon"] = config.norm_epsilon;
}

void write_lathe(const ModelConfig& config, ordered_json& json) {
    json["sequence_length"] = config.sequence_length;
    json["layers"] = config.layers;
    json["channels"] = config.channels;
    json["heads"] = config.heads;
    json["kv_heads"] = config.kv_heads;
    json["feed_forward"] = config.feed_forward;
    json["norm"] = text_of(kNorms, config.norm);
    json["norm_epsilon"] = config.norm_epsilon;
    json["positions"] = text_of(kPositions, config.positions);
    json["rotary_theta"] = config.rotary_theta;
    json["mlp"] = text_of(kMlps, config.mlp);
    json["biases"] = text_of(kBiases, config.biases);
    json["embedding_norm"] = config.embedding_norm;
}

/// The class of transformers that loads the folder.
std::string_view architecture_of(Family family) {
    switch (family) {
        case Family::gpt2:
            return "GPT2LMHeadModel";
        case Family::llama:
            return "LlamaForCausalLM";
        case Family::qwen2:
            return "Qwen2ForCausalLM";
        case Family::bloom:
            return "BloomForCausalLM";
        case Family::lathe:
            return "LatheForCausalLM";
    }
    return "?";
}

}  // namespace

std::string config_json(const ModelConfig& config, DType dtype,
                        std::optional<int64_t> end_of_text) {
    const Family family = family_of(config);
    ordered_json json;
    json["architectures"] = {architecture_of(family)};
    json["model_type"] = name_of(family);
    json["vocab_size"] = config.vocabulary_size;
    switch (family) {
        case Family::gpt2:
            write_gpt2(config, json);
            break;
        case Family::llama:
        case Family::qwen2:
            write_llama(config, json);
            break;
        case Family::bloom:
            write_bloom(config, json);
            break;
        case Family::lathe:
            write_lathe(config, json);
            break;
    }
    json["initializer_range"] = config.init_std;
    const InitRule habit = family == Family::lathe ? InitRule::plain : shape_of(family).init_rule;
    if (config.init_rule != habit) {
        json["lathe_init_rule"] = text_of(kInitRules, config.init_rule);
    }
    json["tie_word_embeddings"] = config.tied_embeddings;
    // Written even when there is none: transformers' defaults are other vocabularies' ids.
    const ordered_json token = end_of_text ? ordered_json(*end_of_text) : ordered_json();
    json["bos_token_id"] = token;
    json["eos_token_id"] = token;
    json["torch_dtype"] = dtype == DType::bf16 ? "bfloat16" : "float32";
    return json.dump(2) + "\n";
}

ModelConfig read_config_json(const std::filesystem::path& path) {
    const ConfigReader file(path);
    const auto family = file.choice<Family>("model_type", kFamilies);
    ModelConfig config;
    config.vocabulary_size = file.integer({"vocab_size"});
    InitRule habit = InitRule::plain;
    bool tied = false;
    if (family == Family::lathe) {
        read_lathe(file, config);
    } else {
        const FamilyShape& shape = shape_of(family);
        config.norm = shape.norm;
        config.positions = shape.positions;
        config.biases = shape.biases;
        config.embedding_norm = shape.embedding_norm;
        habit = shape.init_rule;
        tied = shape.tied;
        if (family == Family::gpt2) {
            read_gpt2(file, config);
        } else if (family == Family::bloom) {
            read_bloom(file, config);
        } else {
            read_llama(file, config, family);
        }
    }
    config.init_std = file.number({"initializer_range"}, 0.02);
    config.init_rule = file.choice<InitRule>("lathe_init_rule", kInitRules, habit);
    config.tied_embeddings = file.boolean("tie_word_embeddings", tied);
    file.only("quantization_config", nullptr);
    try {
        config.validate();
    } catch (const UsageError& error) {
        fail_usage("{}: {}", path.string(), error.what());
    }
    return config;
}

}  // namespace lathe
