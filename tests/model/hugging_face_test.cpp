// Hugging Face's names and places: which element goes where, and that none is lost.
#include "model/hugging_face.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/model/family_configs.h"
#include "tests/model/golden.h"

namespace lathe {
namespace {

const HuggingFaceTensor& tensor_named(const HuggingFaceMapping& mapping, const std::string& name) {
    for (int unit = 0; unit < mapping.num_units(); ++unit) {
        for (const HuggingFaceTensor& tensor : mapping.tensors_of_unit(unit)) {
            if (tensor.name == name) {
                return tensor;
            }
        }
    }
    fail("no tensor {}", name);
}

/// The tensor of Lathe and the element within it that element `index` of the stored tensor is.
std::pair<std::string, int64_t> origin(const HuggingFaceMapping& mapping, const std::string& name,
                                       int64_t index) {
    const HuggingFaceTensor& tensor = tensor_named(mapping, name);
    const std::vector<int64_t> places =
        places_in_row(tensor, mapping.unit_size(tensor.source.unit));
    return {tensor.source.name, places.at(static_cast<size_t>(index)) - tensor.source.offset};
}

using Origin = std::pair<std::string, int64_t>;

class MappingTest : public testing::TestWithParam<FamilyCase> {
  protected:
    ModelConfig config_ = GetParam().config;
    ParamLayout layout_{config_};
    HuggingFaceMapping mapping_{config_, layout_};
};

TEST_P(MappingTest, EveryParameterIsInExactlyOneTensor) {
    EXPECT_EQ(mapping_.family(), GetParam().family);
    std::set<std::string> names;
    int64_t total = 0;
    for (int unit = 0; unit < mapping_.num_units(); ++unit) {
        std::set<int64_t> places;
        for (const HuggingFaceTensor& tensor : mapping_.tensors_of_unit(unit)) {
            EXPECT_EQ(tensor.source.unit, unit);
            EXPECT_TRUE(names.insert(tensor.name).second) << tensor.name;
            int64_t size = 1;
            for (const int64_t extent : tensor.shape) {
                size *= extent;
            }
            EXPECT_EQ(size, tensor.size()) << tensor.name;
            for (const int64_t place : places_in_row(tensor, mapping_.unit_size(unit))) {
                EXPECT_TRUE(places.insert(place).second) << tensor.name << " " << place;
                const ParamTensor* owner = layout_.at(unit, place);
                ASSERT_NE(owner, nullptr);
                EXPECT_EQ(owner->name, tensor.source.name);
            }
        }
        total += std::ssize(places);
    }
    EXPECT_EQ(total, layout_.num_parameters());
}

TEST_P(MappingTest, RoundTripsEveryUnit) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    for (int unit = 0; unit < mapping_.num_units(); ++unit) {
        const auto size = static_cast<size_t>(mapping_.unit_size(unit));
        std::vector<float> row(size, 0.0F);
        std::vector<float> rounded(size, 0.0F);
        for (const HuggingFaceTensor& tensor : mapping_.tensors_of_unit(unit)) {
            for (const int64_t place : places_in_row(tensor, mapping_.unit_size(unit))) {
                const float value = normal(random);
                row[static_cast<size_t>(place)] = value;
                rounded[static_cast<size_t>(place)] = static_cast<float>(bf16(value));
            }
        }
        for (const DType dtype : {DType::f32, DType::bf16}) {
            std::vector<float> back(size, 0.0F);
            for (const HuggingFaceTensor& tensor : mapping_.tensors_of_unit(unit)) {
                std::vector<std::byte> bytes(static_cast<size_t>(tensor.size() * size_of(dtype)));
                to_hugging_face(tensor, row, dtype, bytes);
                from_hugging_face(
                    tensor,
                    {tensor.name, std::string(safetensors_dtype(dtype)), tensor.shape, bytes},
                    back);
            }
            EXPECT_EQ(back, dtype == DType::f32 ? row : rounded) << unit;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Families, MappingTest, testing::ValuesIn(family_cases()),
                         [](const auto& parameter) { return parameter.param.name; });

TEST(HuggingFaceMapping, Gpt2StoresLinearWeightsTransposed) {
    const ModelConfig config = family_case("gpt2").config;  // C = 12, F = 20
    const HuggingFaceMapping mapping(config, ParamLayout(config));
    EXPECT_EQ(tensor_named(mapping, "transformer.h.1.mlp.c_fc.weight").shape,
              (std::vector<int64_t>{12, 20}));
    // Stored [in, out]: element (in 3, out 7) is row 7, column 3.
    EXPECT_EQ(origin(mapping, "transformer.h.1.mlp.c_fc.weight", 3 * 20 + 7),
              (Origin{"blocks.1.mlp.up.weight", 7 * 12 + 3}));
    EXPECT_EQ(origin(mapping, "transformer.h.0.attn.c_attn.bias", 30),
              (Origin{"blocks.0.attention.qkv.bias", 30}));
    EXPECT_EQ(tensor_named(mapping, "transformer.wte.weight").shape,
              (std::vector<int64_t>{config.vocabulary_size, 12}));
}

TEST(HuggingFaceMapping, LlamaSplitsPackedRows) {
    const ModelConfig config = family_case("llama_grouped").config;  // C = 24, D = 4, H = 6, K = 2
    const HuggingFaceMapping mapping(config, ParamLayout(config));
    const std::string attention = "model.layers.1.self_attn.";
    EXPECT_EQ(tensor_named(mapping, attention + "k_proj.weight").shape,
              (std::vector<int64_t>{8, 24}));
    const std::string qkv = "blocks.1.attention.qkv.weight";
    EXPECT_EQ(origin(mapping, attention + "q_proj.weight", 5), (Origin{qkv, 5}));
    EXPECT_EQ(origin(mapping, attention + "k_proj.weight", 5), (Origin{qkv, 24 * 24 + 5}));
    EXPECT_EQ(origin(mapping, attention + "v_proj.weight", 5), (Origin{qkv, 32 * 24 + 5}));
    EXPECT_EQ(origin(mapping, "model.layers.0.mlp.gate_proj.weight", 1),
              (Origin{"blocks.0.mlp.up.weight", 1}));
    EXPECT_EQ(origin(mapping, "model.layers.0.mlp.up_proj.weight", 1),
              (Origin{"blocks.0.mlp.up.weight", config.feed_forward * 24 + 1}));
    EXPECT_EQ(tensor_named(mapping, "lm_head.weight").source.name, "head.weight");
}

TEST(HuggingFaceMapping, BloomPacksQueryKeyValueHeadByHead) {
    const ModelConfig config = family_case("bloom").config;  // C = 12, H = 3, D = 4
    const HuggingFaceMapping mapping(config, ParamLayout(config));
    // Stored row (head 2, value, d 1) is Lathe's row (value, head 2, d 1).
    EXPECT_EQ(
        origin(mapping, "transformer.h.0.self_attention.query_key_value.bias", (2 * 3 + 2) * 4 + 1),
        (Origin{"blocks.0.attention.qkv.bias", (2 * 3 + 2) * 4 + 1}));
    EXPECT_EQ(origin(mapping, "transformer.h.0.self_attention.query_key_value.weight",
                     ((1 * 3 + 2) * 4 + 1) * 12 + 5),
              (Origin{"blocks.0.attention.qkv.weight", ((2 * 3 + 1) * 4 + 1) * 12 + 5}));
    EXPECT_EQ(tensor_named(mapping, "transformer.word_embeddings_layernorm.bias").source.name,
              "embedding.norm.bias");
}

TEST(HuggingFaceMapping, KnowsWhatFilesCarryBesides) {
    const auto mapping_of = [](const std::string& name) {
        const ModelConfig config = family_case(name).config;
        return HuggingFaceMapping(config, ParamLayout(config));
    };
    EXPECT_TRUE(mapping_of("gpt2").is_ignorable("h.0.attn.bias"));
    EXPECT_TRUE(mapping_of("gpt2").is_ignorable("lm_head.weight"));
    EXPECT_FALSE(mapping_of("gpt2").is_ignorable("h.0.attn.c_attn.bias"));
    EXPECT_FALSE(mapping_of("llama_grouped").is_ignorable("lm_head.weight"));
    EXPECT_TRUE(
        mapping_of("llama_grouped").is_ignorable("model.layers.0.self_attn.rotary_emb.inv_freq"));
}

TEST(HuggingFaceMapping, RefusesWrongShapesAndTypes) {
    const ModelConfig config = family_case("llama_grouped").config;
    const HuggingFaceMapping mapping(config, ParamLayout(config));
    const HuggingFaceTensor& norm = tensor_named(mapping, "model.norm.weight");
    std::vector<float> row(static_cast<size_t>(mapping.unit_size(norm.source.unit)));
    std::vector<std::byte> bytes(4 * 24);
    EXPECT_THROW(from_hugging_face(norm, {"n", "F32", {4, 6}, bytes}, row), UsageError);
    EXPECT_THROW(from_hugging_face(norm, {"n", "I32", {24}, bytes}, row), UsageError);
    EXPECT_THROW(to_hugging_face(norm, row, DType::bf16, bytes), Error);
}

}  // namespace
}  // namespace lathe
