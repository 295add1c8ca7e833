#include "model/param_layout.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "kernels/operations.h"
#include "tests/model/tiny_model.h"

namespace lathe {
namespace {

std::vector<ModelConfig> configs() {
    std::vector<ModelConfig> all;
    for (const TinyCase& tiny : tiny_cases()) {
        all.push_back(tiny.config);
    }
    all.push_back(preset("gpt2-124m"));
    all.push_back(preset("llama-8b"));
    return all;
}

TEST(ParamLayoutTest, TensorsAreAlignedApartAndDecayedOnesComeFirst) {
    for (const ModelConfig& config : configs()) {
        const ParamLayout layout(config);
        for (int unit = 0; unit < layout.num_units(); ++unit) {
            const ParamUnit& u = layout.units()[static_cast<size_t>(unit)];
            EXPECT_EQ(u.size % kChunkElements, 0) << u.name;
            EXPECT_GT(u.size, 0) << u.name;
            int64_t end = 0;
            for (const ParamTensor& tensor : layout.tensors_of(unit)) {
                EXPECT_EQ(tensor.unit, unit) << tensor.name;
                EXPECT_EQ(tensor.offset % 64, 0) << tensor.name;
                EXPECT_GE(tensor.offset, end) << tensor.name;
                EXPECT_LT(tensor.offset, end + 64) << tensor.name;
                end = tensor.offset + tensor.shape.size();
                EXPECT_EQ(tensor.decayed, end <= u.decayed_end) << tensor.name;
                EXPECT_EQ(tensor.decayed, tensor.shape.rank() == 2) << tensor.name;
            }
            EXPECT_LE(end, u.size) << u.name;
            EXPECT_LT(u.size - end, kChunkElements) << u.name;
        }
    }
}

TEST(ParamLayoutTest, NamesAreUniqueAndFound) {
    for (const ModelConfig& config : configs()) {
        const ParamLayout layout(config);
        std::set<std::string> names;
        for (const ParamTensor& tensor : layout.tensors()) {
            EXPECT_TRUE(names.insert(tensor.name).second) << tensor.name;
            EXPECT_EQ(layout.find(tensor.name), &tensor);
        }
        EXPECT_EQ(layout.find("no.such"), nullptr);
    }
}

TEST(ParamLayoutTest, AtGivesTheTensorOfEachElement) {
    const ParamLayout layout(tiny_cases()[0].config);
    for (int unit = 0; unit < layout.num_units(); ++unit) {
        int64_t covered = 0;
        int64_t real = 0;
        for (int64_t i = 0; i < layout.units()[static_cast<size_t>(unit)].size; ++i) {
            const ParamTensor* tensor = layout.at(unit, i);
            if (tensor != nullptr) {
                ++covered;
                EXPECT_GE(i, tensor->offset);
                EXPECT_LT(i, tensor->offset + tensor->shape.size());
            }
        }
        for (const ParamTensor& tensor : layout.tensors_of(unit)) {
            real += tensor.shape.size();
        }
        EXPECT_EQ(covered, real);
    }
}

TEST(ParamLayoutTest, UnitsFollowTheForwardPass) {
    const ParamLayout layout(tiny_cases()[0].config);
    std::vector<std::string> names;
    for (const ParamUnit& unit : layout.units()) {
        names.push_back(unit.name);
    }
    EXPECT_EQ(names, (std::vector<std::string>{"embedding", "blocks.0", "blocks.1", "final"}));
    EXPECT_EQ(layout.block_unit(1), 2);
    EXPECT_EQ(layout.final_unit(), 3);
    EXPECT_EQ(layout.num_elements() % kChunkElements, 0);
}

TEST(ParamLayoutTest, GivesTheTensorsThatTheConfigurationAsksFor) {
    ModelConfig config = tiny_cases()[1].config;
    ASSERT_EQ(config.biases, Biases::none);
    const auto has = [&](const char* name) { return ParamLayout(config).find(name) != nullptr; };
    EXPECT_TRUE(has("head.weight"));
    EXPECT_FALSE(has("final_norm.bias"));
    EXPECT_FALSE(has("blocks.1.attention.qkv.bias"));
    EXPECT_FALSE(has("embedding.positions"));
    config.biases = Biases::qkv;
    EXPECT_TRUE(has("blocks.1.attention.qkv.bias"));
    EXPECT_FALSE(has("blocks.1.attention.output.bias"));
    config.biases = Biases::all;
    EXPECT_TRUE(has("blocks.1.mlp.down.bias"));
    config.embedding_norm = true;
    config.norm = NormKind::layernorm;
    EXPECT_TRUE(has("embedding.norm.bias"));
    config.tied_embeddings = true;
    EXPECT_FALSE(has("head.weight"));
    EXPECT_EQ(ParamLayout(config).find("blocks.0.mlp.up.weight")->shape,
              (Shape{2 * config.feed_forward, config.channels}));
    EXPECT_EQ(ParamLayout(config).find("blocks.0.attention.qkv.weight")->shape,
              (Shape{(config.heads + 2 * config.kv_heads) * config.head_size(), config.channels}));
}

std::vector<float> initial_unit(const ParamLayout& layout, const ModelConfig& config, int unit,
                                uint64_t seed) {
    std::vector<float> values(static_cast<size_t>(layout.units()[static_cast<size_t>(unit)].size));
    initialize(layout, config, unit, 0, seed, values);
    return values;
}

TEST(InitializeTest, DoesNotDependOnTheSplit) {
    const ModelConfig config = tiny_cases()[0].config;
    const ParamLayout layout(config);
    for (int unit = 0; unit < layout.num_units(); ++unit) {
        const std::vector<float> whole = initial_unit(layout, config, unit, 7);
        for (const size_t piece : {size_t{1}, size_t{3}, size_t{1000}, size_t{4096}}) {
            std::vector<float> pieces(whole.size(), -1.0F);
            for (size_t begin = 0; begin < whole.size(); begin += piece) {
                const size_t count = std::min(piece, whole.size() - begin);
                initialize(layout, config, unit, static_cast<int64_t>(begin), 7,
                           std::span(pieces).subspan(begin, count));
            }
            EXPECT_EQ(pieces, whole) << "pieces of " << piece;
        }
    }
}

TEST(InitializeTest, DoesNotDependOnOtherTensors) {
    ModelConfig config = tiny_cases()[1].config;
    const ParamLayout two(config);
    const std::vector<float> before = initial_unit(two, config, 1, 7);
    config.layers = 3;
    config.vocabulary_size = 1000;
    const ParamLayout three(config);
    EXPECT_EQ(initial_unit(three, config, 1, 7), before);
    EXPECT_NE(initial_unit(three, config, 2, 7), before);
    EXPECT_NE(initial_unit(three, config, 1, 8), before);
}

TEST(InitializeTest, FollowsTheNormalDistributionOfEachTensor) {
    const ModelConfig config = preset("llama-5m");
    ModelConfig scaled = config;
    scaled.init_rule = InitRule::scaled_residual;
    for (const ModelConfig& c : {config, scaled}) {
        const ParamLayout layout(c);
        const std::vector<float> values = initial_unit(layout, c, 1, 1);
        for (const ParamTensor& tensor : layout.tensors_of(1)) {
            const auto n = static_cast<double>(tensor.shape.size());
            double moments[4] = {};
            for (int64_t i = 0; i < tensor.shape.size(); ++i) {
                const double x = values[static_cast<size_t>(tensor.offset + i)];
                for (int power = 0; power < 4; ++power) {
                    moments[power] += std::pow(x, power + 1) / n;
                }
            }
            if (!tensor.decayed) {
                EXPECT_EQ(moments[0], 1.0) << tensor.name;
                continue;
            }
            const bool residual =
                tensor.name.ends_with("output.weight") || tensor.name.ends_with("down.weight");
            const bool smaller = residual && c.init_rule == InitRule::scaled_residual;
            const double s = 0.02 / (smaller ? std::sqrt(12.0) : 1.0);
            // Five standard errors of each sample moment.
            EXPECT_NEAR(moments[0] / s, 0.0, 5.0 * std::sqrt(1.0 / n)) << tensor.name;
            EXPECT_NEAR(moments[1] / (s * s), 1.0, 5.0 * std::sqrt(2.0 / n)) << tensor.name;
            EXPECT_NEAR(moments[2] / (s * s * s), 0.0, 5.0 * std::sqrt(15.0 / n)) << tensor.name;
            EXPECT_NEAR(moments[3] / (s * s * s * s), 3.0, 5.0 * std::sqrt(96.0 / n))
                << tensor.name;
        }
    }
}

TEST(InitializeTest, PaddingIsZero) {
    for (const TinyCase& tiny : tiny_cases()) {
        const ParamLayout layout(tiny.config);
        for (int unit = 0; unit < layout.num_units(); ++unit) {
            const std::vector<float> values = initial_unit(layout, tiny.config, unit, 1);
            for (size_t i = 0; i < values.size(); ++i) {
                const ParamTensor* tensor = layout.at(unit, static_cast<int64_t>(i));
                const bool vocabulary_padding =
                    tensor != nullptr && tensor->shape[0] == tiny.config.padded_vocabulary() &&
                    (static_cast<int64_t>(i) - tensor->offset) / tiny.config.channels >=
                        tiny.config.vocabulary_size;
                if (tensor == nullptr || vocabulary_padding) {
                    ASSERT_EQ(values[i], 0.0F) << tiny.name << " unit " << unit << " " << i;
                } else if (tensor->init_std > 0.0) {
                    ASSERT_NE(values[i], 0.0F) << tiny.name << " unit " << unit << " " << i;
                }
            }
        }
    }
}

}  // namespace
}  // namespace lathe
