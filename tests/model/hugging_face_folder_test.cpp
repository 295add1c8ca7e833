// Folders of Hugging Face's layout, written and read.
#include "model/hugging_face_folder.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "kernels/files.h"
#include "tests/model/family_configs.h"
#include "tests/model/golden.h"
#include "tests/support/temporary_folder.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// A unit's initial values, as a source of weights.
void initial_row(const ModelConfig& config, int unit, std::span<float> row) {
    initialize(ParamLayout(config), config, unit, 0, 11, row);
}

std::vector<float> read_row(const HuggingFaceFolder& folder, const HuggingFaceMapping& mapping,
                            int unit) {
    // Poisoned: read_unit writes padding too.
    std::vector<float> row(static_cast<size_t>(mapping.unit_size(unit)), 1e30F);
    folder.read_unit(mapping, unit, row);
    return row;
}

class FolderTest : public testing::Test {
  protected:
    fs::path root() const { return temporary_.path(); }
    UnitSource source(const ModelConfig& config) {
        return [&config](int unit, std::span<float> row) { initial_row(config, unit, row); };
    }
    /// A valid folder of one unit file each.
    void write_units(const fs::path& folder, const ModelConfig& config, DType dtype) {
        fs::create_directories(folder);
        const HuggingFaceMapping mapping(config, ParamLayout(config));
        for (int unit = 0; unit < mapping.num_units(); ++unit) {
            std::vector<float> row(static_cast<size_t>(mapping.unit_size(unit)));
            initial_row(config, unit, row);
            write_unit_file(folder, mapping, unit, row, dtype);
        }
        write_index_file(folder, mapping, dtype);
        write_config_file(folder, config, dtype);
    }
    void expect_holds(const fs::path& path, const ModelConfig& config, DType dtype) {
        const HuggingFaceFolder folder(path);
        EXPECT_TRUE(folder.config() == config);
        const HuggingFaceMapping mapping(config, ParamLayout(config));
        folder.check(mapping);
        for (int unit = 0; unit < mapping.num_units(); ++unit) {
            std::vector<float> expected(static_cast<size_t>(mapping.unit_size(unit)));
            initial_row(config, unit, expected);
            for (float& value : expected) {
                value = dtype == DType::bf16 ? static_cast<float>(bf16(value)) : value;
            }
            EXPECT_EQ(read_row(folder, mapping, unit), expected) << unit;
        }
    }
    std::string complaint(const fs::path& path, const ModelConfig& config) {
        try {
            const HuggingFaceFolder folder(path);
            folder.check(HuggingFaceMapping(config, ParamLayout(config)));
        } catch (const UsageError& error) {
            return error.what();
        }
        return "";
    }

    TemporaryFolder temporary_;
};

TEST_F(FolderTest, ReadsWhatTransformersSaved) {
    for (const std::string family : {"gpt2", "llama", "qwen2", "bloom"}) {
        const HuggingFaceFolder folder(golden_folder(family));
        const HuggingFaceMapping mapping(folder.config(), ParamLayout(folder.config()));
        EXPECT_EQ(name_of(mapping.family()), family);
        folder.check(mapping);
        for (int unit = 0; unit < mapping.num_units(); ++unit) {
            double sum = 0.0;
            for (const float value : read_row(folder, mapping, unit)) {
                ASSERT_LT(std::abs(value), 10.0F);
                sum += std::abs(value);
            }
            EXPECT_GT(sum, 0.0);
        }
    }
}

TEST_F(FolderTest, ExportsAndReadsBack) {
    write_file(root() / "tokens.json", "{\"any\": 1}");
    for (const FamilyCase& one : family_cases()) {
        for (const DType dtype : {DType::f32, DType::bf16}) {
            const fs::path output = root() / (one.name + std::string(name_of(dtype)));
            const FolderOptions options{dtype, root() / "tokens.json", EndOfText{2, "<end>"}};
            if (one.family == Family::lathe) {
                EXPECT_THROW(export_model(output, one.config, source(one.config), options),
                             UsageError);
                EXPECT_FALSE(fs::exists(output));
                continue;
            }
            export_model(output.string() + "/", one.config, source(one.config), options);
            expect_holds(output, one.config, dtype);
            EXPECT_EQ(read_file(output / "tokenizer.json"), "{\"any\": 1}");
            std::set<std::string> names;
            for (const auto& entry : fs::directory_iterator(output)) {
                names.insert(entry.path().filename().string());
            }
            EXPECT_EQ(names, (std::set<std::string>{"config.json", "model.safetensors",
                                                    "tokenizer.json", "tokenizer_config.json"}));
            EXPECT_EQ(json::parse(read_file(output / "config.json"))["eos_token_id"], 2);
            EXPECT_EQ(json::parse(read_file(output / "tokenizer_config.json"))["eos_token"],
                      "<end>");
            EXPECT_EQ(HuggingFaceFolder(output).stored_dtype(), dtype);
            EXPECT_THROW(export_model(output, one.config, source(one.config), options), UsageError);
        }
    }
}

TEST_F(FolderTest, ImportsAndReadsBack) {
    for (const FamilyCase& one : family_cases()) {
        const fs::path output = root() / one.name;
        import_model(output, one.config, source(one.config), {.dtype = DType::bf16});
        expect_holds(output, one.config, DType::bf16);
        EXPECT_TRUE(fs::exists(output / unit_file_name(0, ParamLayout(one.config).num_units())));
        EXPECT_THROW(import_model(output, one.config, source(one.config), {}), UsageError);
    }
}

TEST_F(FolderTest, AFailedExportLeavesNothing) {
    const ModelConfig config = family_case("llama_grouped").config;
    const UnitSource failing = [](int unit, std::span<float>) {
        LATHE_CHECK(unit < 2, "no such unit");
    };
    EXPECT_THROW(export_model(root() / "out", config, failing, {}), Error);
    EXPECT_THROW(import_model(root() / "out", config, failing, {}), Error);
    EXPECT_THROW(export_model(root() / "out", config, source(config),
                              {.dtype = DType::f32, .tokenizer = root() / "absent"}),
                 UsageError);
    EXPECT_TRUE(fs::is_empty(root()));
}

TEST_F(FolderTest, UnitFilesWithAnIndexReadBack) {
    for (const FamilyCase& one : family_cases()) {
        const fs::path folder = root() / one.name;
        write_units(folder, one.config, DType::bf16);
        expect_holds(folder, one.config, DType::bf16);
        const json index = json::parse(read_file(folder / "model.safetensors.index.json"));
        EXPECT_EQ(index["metadata"]["total_size"].get<int64_t>(),
                  2 * ParamLayout(one.config).num_parameters());
    }
    EXPECT_EQ(unit_file_name(0, 4), "model-00001-of-00004.safetensors");
}

TEST_F(FolderTest, NamesWithoutThePrefixAndIgnorableTensorsAreRead) {
    const ModelConfig config = family_case("gpt2").config;
    const HuggingFaceMapping mapping(config, ParamLayout(config));
    std::vector<SafetensorsTensor> declared = {{"h.0.attn.bias", "F32", {1, 1}},
                                               {"lm_head.weight", "F32", {1, 1}}};
    std::vector<std::vector<std::byte>> contents(2, std::vector<std::byte>(4));
    for (int unit = 0; unit < mapping.num_units(); ++unit) {
        std::vector<float> row(static_cast<size_t>(mapping.unit_size(unit)));
        initial_row(config, unit, row);
        for (const HuggingFaceTensor& tensor : mapping.tensors_of_unit(unit)) {
            declared.push_back({tensor.name.substr(mapping.prefix().size()), "F32", tensor.shape});
            contents.emplace_back(static_cast<size_t>(tensor.size() * 4));
            to_hugging_face(tensor, row, DType::f32, contents.back());
        }
    }
    SafetensorsWriter writer(root() / "model.safetensors", declared);
    for (size_t i = 0; i < declared.size(); ++i) {
        writer.write(i, 0, contents[i]);
    }
    writer.finish();
    write_config_file(root(), config, DType::f32);
    expect_holds(root(), config, DType::f32);
}

TEST_F(FolderTest, BrokenFoldersAreRefusedWithTheReason) {
    const ModelConfig config = family_case("llama_grouped").config;
    const fs::path folder = root() / "model";
    const fs::path index = folder / "model.safetensors.index.json";
    EXPECT_NE(complaint(folder, config).find("is no folder"), std::string::npos);
    write_units(folder, config, DType::f32);
    ASSERT_EQ(complaint(folder, config), "");

    ModelConfig other = config;
    other.layers = 3;
    EXPECT_NE(complaint(folder, other)
                  .find("model.layers.2.input_layernorm.weight' of the model "
                        "is missing"),
              std::string::npos);
    other.layers = 1;
    EXPECT_NE(complaint(folder, other).find("is none of the model's"), std::string::npos);
    other = config;
    other.feed_forward = 20;
    EXPECT_NE(complaint(folder, other).find("has shape [28, 24]; config.json makes it [20, 24]"),
              std::string::npos);

    const std::string good_index = read_file(index);
    const auto with_index = [&](const std::string& text) {
        write_file(index, text);
        return complaint(folder, config);
    };
    EXPECT_NE(with_index("{").find("no valid JSON"), std::string::npos);
    EXPECT_NE(with_index("{}").find("no 'weight_map'"), std::string::npos);
    EXPECT_NE(with_index(R"({"weight_map": {"a": 3}})").find("no plain file name"),
              std::string::npos);
    EXPECT_NE(with_index(R"({"weight_map": {"a": "../model/x"}})").find("no plain file name"),
              std::string::npos);
    EXPECT_NE(with_index(R"({"weight_map": {"a": "x.safetensors"}})").find("absent"),
              std::string::npos);
    write_file(index, good_index);
    ASSERT_EQ(complaint(folder, config), "");

    const std::string part = read_file(folder / unit_file_name(1, 4));
    write_file(folder / unit_file_name(1, 4), part.substr(0, part.size() - 1));
    EXPECT_NE(complaint(folder, config).find(unit_file_name(1, 4)), std::string::npos);
    write_file(folder / unit_file_name(1, 4), part);
    fs::remove(index);
    EXPECT_NE(complaint(folder, config).find("has neither"), std::string::npos);
    write_file(folder / "pytorch_model.bin", "");
    EXPECT_NE(complaint(folder, config).find("safetensors"), std::string::npos);
}

}  // namespace
}  // namespace lathe
