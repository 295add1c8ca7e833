// config.json, both ways.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "kernels/files.h"
#include "model/hugging_face.h"
#include "tests/model/family_configs.h"
#include "tests/model/golden.h"
#include "tests/support/temporary_folder.h"

namespace lathe {
namespace {

using nlohmann::json;

class ConfigJsonTest : public testing::Test {
  protected:
    std::filesystem::path path() const { return folder_.file("config.json"); }
    ModelConfig read(const json& text) {
        write_file(path(), text.dump());
        return read_config_json(path());
    }
    static json text_of(const std::string& name) {
        return json::parse(config_json(family_case(name).config, DType::f32));
    }
    /// What reading says; empty when it is accepted.
    std::string complaint(const json& text) {
        try {
            read(text);
        } catch (const UsageError& error) {
            return error.what();
        }
        return "";
    }

    TemporaryFolder folder_;
};

TEST_F(ConfigJsonTest, RoundTripsEveryFamilyAndPreset) {
    std::vector<ModelConfig> configs;
    for (const FamilyCase& one : family_cases()) {
        configs.push_back(one.config);
    }
    for (const std::string& name : preset_names()) {
        configs.push_back(preset(name));
        EXPECT_NE(family_of(configs.back()), Family::lathe) << name;
        EXPECT_NO_THROW(check_exportable(configs.back())) << name;
    }
    for (const ModelConfig& config : configs) {
        const json text = json::parse(config_json(config, DType::bf16, 3));
        EXPECT_EQ(text["torch_dtype"], "bfloat16");
        EXPECT_EQ(text["eos_token_id"], 3);
        EXPECT_TRUE(read(text) == config) << text.dump();
    }
}

TEST_F(ConfigJsonTest, ReadsWhatTransformersWrote) {
    const ModelConfig gpt2 = read_config_json(golden_folder("gpt2") / "config.json");
    EXPECT_EQ(gpt2.feed_forward, 40);
    EXPECT_EQ(gpt2.sequence_length, 20);
    EXPECT_TRUE(gpt2.tied_embeddings);
    const ModelConfig llama = read_config_json(golden_folder("llama") / "config.json");
    EXPECT_EQ(llama.kv_heads, 2);
    EXPECT_EQ(llama.norm_epsilon, 0x1p-17);
    EXPECT_FALSE(llama.tied_embeddings);
    EXPECT_EQ(read_config_json(golden_folder("qwen2") / "config.json").biases, Biases::qkv);
    EXPECT_TRUE(read_config_json(golden_folder("bloom") / "config.json").embedding_norm);
}

TEST_F(ConfigJsonTest, ReadsOtherSpellings) {
    // GPT-2's own file: no n_inner, n_ctx beside n_positions, no tie_word_embeddings.
    const ModelConfig gpt2 = read({{"model_type", "gpt2"},
                                   {"vocab_size", 50257},
                                   {"n_ctx", 512},
                                   {"n_embd", 64},
                                   {"n_head", 4},
                                   {"n_layer", 2},
                                   {"n_inner", nullptr},
                                   {"layer_norm_epsilon", 1e-5},
                                   {"activation_function", "gelu_pytorch_tanh"}});
    EXPECT_EQ(gpt2.feed_forward, 256);
    EXPECT_EQ(gpt2.sequence_length, 512);
    EXPECT_EQ(gpt2.mlp, MlpKind::gelu_tanh);
    EXPECT_TRUE(gpt2.tied_embeddings);
    // BLOOM's: n_embed wins over hidden_size.
    const ModelConfig bloom = read({{"model_type", "bloom"},
                                    {"vocab_size", 100},
                                    {"n_embed", 32},
                                    {"hidden_size", 64},
                                    {"num_attention_heads", 4},
                                    {"num_hidden_layers", 3}});
    EXPECT_EQ(bloom.channels, 32);
    EXPECT_EQ(bloom.layers, 3);
    EXPECT_TRUE(bloom.tied_embeddings);
    // Rotary: the older spelling, the newer one, and neither.
    json llama = text_of("llama_grouped");
    llama.erase("rope_parameters");
    EXPECT_EQ(read(llama).rotary_theta, 500000.0);
    llama.erase("rope_theta");
    EXPECT_EQ(read(llama).rotary_theta, 10000.0);
    llama["rope_parameters"] = {{"rope_theta", 1234}, {"rope_type", "default"}};
    llama["rope_scaling"] = nullptr;
    llama.erase("num_key_value_heads");
    EXPECT_EQ(read(llama).rotary_theta, 1234.0);
    EXPECT_EQ(read(llama).kv_heads, 6);
}

TEST_F(ConfigJsonTest, RefusesWhatLatheDoesNotHave) {
    struct Case {
        std::string base;
        std::string field;
        json value;
        std::string expected;
    };
    const std::vector<Case> cases = {
        {"llama_grouped", "model_type", "mistral",
         "model_type = \"mistral\": Lathe has gpt2, llama"},
        {"llama_grouped",
         "rope_scaling",
         {{"rope_type", "llama3"}, {"factor", 8.0}},
         "plain rotary"},
        {"llama_grouped",
         "rope_parameters",
         {{"rope_theta", 1e4}, {"rope_type", "yarn"}},
         "rope_parameters.rope_type = \"yarn\""},
        {"llama_grouped", "rope_parameters", 5, "must be an object"},
        {"llama_grouped", "hidden_act", "gelu", "hidden_act = \"gelu\": Lathe has only \"silu\""},
        {"llama_grouped", "head_dim", 8, "head_dim = 8: Lathe has only 4"},
        {"llama_grouped", "attention_bias", true, "attention_bias = true"},
        {"llama_grouped", "mlp_bias", true, "mlp_bias = true"},
        {"llama_grouped", "num_attention_heads", 5, "heads = 5"},
        {"llama_grouped", "num_attention_heads", 0, "heads"},
        {"llama_grouped", "num_key_value_heads", 4, "4"},
        {"llama_grouped", "hidden_size", nullptr, "has no hidden_size"},
        {"llama_grouped", "hidden_size", "24", "hidden_size = \"24\": must be a whole number"},
        {"llama_grouped", "hidden_size", -24, "hidden_size = -24"},
        {"llama_grouped", "hidden_size", 24.5, "hidden_size = 24.5"},
        {"llama_grouped", "hidden_size", uint64_t{1} << 63, "must be a whole number up to"},
        {"llama_grouped", "vocab_size", 0, "vocab"},
        {"llama_grouped", "rms_norm_eps", "small", "must be a number"},
        {"llama_grouped", "tie_word_embeddings", 1, "must be true or false"},
        {"llama_grouped", "quantization_config", json::object(), "quantization_config"},
        {"qwen2", "use_sliding_window", true, "use_sliding_window = true"},
        {"qwen2", "layer_types", {"full_attention", "sliding_attention"}, "sliding_attention"},
        {"gpt2", "activation_function", "relu", "activation_function = \"relu\""},
        {"gpt2", "scale_attn_weights", false, "scale_attn_weights = false"},
        {"gpt2", "scale_attn_by_inverse_layer_idx", true, "scale_attn_by_inverse_layer_idx"},
        {"gpt2", "add_cross_attention", true, "add_cross_attention"},
        {"bloom", "apply_residual_connection_post_layernorm", true, "post_layernorm"},
        {"between", "norm", "batchnorm", "norm = \"batchnorm\""}};
    for (const Case& wrong : cases) {
        json text = text_of(wrong.base);
        ASSERT_EQ(complaint(text), "");
        text[wrong.field] = wrong.value;
        const std::string said = complaint(text);
        EXPECT_NE(said.find(wrong.expected), std::string::npos) << wrong.field << " | " << said;
        EXPECT_EQ(said.find(path().string()), 0U) << said;
    }
    for (const char* text : {"", "{", "[]", "7", "{\"model_type\": 3}"}) {
        write_file(path(), text);
        EXPECT_THROW(read_config_json(path()), UsageError) << text;
    }
    EXPECT_THROW(read_config_json(folder_.file("absent")), UsageError);
}

TEST(CheckExportable, NamesTheFieldThatNoFamilyHas) {
    const auto complaint = [](const ModelConfig& config) -> std::string {
        EXPECT_EQ(family_of(config), Family::lathe);
        try {
            check_exportable(config);
        } catch (const UsageError& error) {
            return error.what();
        }
        return "";
    };
    ModelConfig config = family_case("gpt2").config;
    config.positions = Positions::rotary;
    EXPECT_NE(complaint(config).find("positions = rotary (gpt2 has learned)"), std::string::npos);
    config = family_case("llama_grouped").config;
    config.biases = Biases::all;
    EXPECT_NE(complaint(config).find("biases = all (llama has none)"), std::string::npos);
    config = family_case("bloom").config;
    config.feed_forward = 40;
    EXPECT_NE(complaint(config).find("feed-forward = 40 (bloom has 4 x channels = 48)"),
              std::string::npos);
    config = family_case("gpt2").config;
    config.kv_heads = 1;
    EXPECT_NE(complaint(config).find("kv-heads = 1"), std::string::npos);
}

}  // namespace
}  // namespace lathe
