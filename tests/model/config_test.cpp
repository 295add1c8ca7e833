#include "model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "model/param_layout.h"

namespace lathe {
namespace {

int64_t parameters_of(const char* name) { return ParamLayout(preset(name)).num_parameters(); }

TEST(PresetTest, HasThePublishedNumberOfParameters) {
    EXPECT_EQ(parameters_of("gpt2-124m"), 124'439'808);
    EXPECT_EQ(parameters_of("gpt2-355m"), 354'823'168);
    EXPECT_EQ(parameters_of("gpt2-774m"), 774'030'080);
    EXPECT_EQ(parameters_of("gpt2-1558m"), 1'557'611'200);
    EXPECT_EQ(parameters_of("bloom-560m"), 559'214'592);
    EXPECT_EQ(parameters_of("llama-8b"), 8'030'261'248);
    EXPECT_EQ(parameters_of("llama-1b"), 1'235'814'400);
    EXPECT_EQ(parameters_of("llama-15m"), 15'191'712);
    EXPECT_EQ(parameters_of("llama-110m"), 109'529'856);
    EXPECT_NEAR(static_cast<double>(parameters_of("llama-5m")), 5e6, 0.5e6);
}

TEST(PresetTest, EachIsValid) {
    for (const std::string& name : preset_names()) {
        EXPECT_NO_THROW(preset(name).validate()) << name;
    }
    EXPECT_EQ(preset_names().size(), 10U);
}

TEST(PresetTest, UnknownNameListsTheKnown) {
    try {
        preset("gpt5");
        FAIL();
    } catch (const UsageError& error) {
        EXPECT_EQ(std::string(error.what()),
                  "preset = gpt5: there is no such preset; choose one of gpt2-124m, gpt2-355m, "
                  "gpt2-774m, gpt2-1558m, llama-5m, llama-15m, llama-110m, llama-1b, llama-8b, "
                  "bloom-560m");
    }
}

struct Invalid {
    std::function<void(ModelConfig&)> spoil;
    std::string message;
};

TEST(ModelConfigTest, ValidateNamesTheFieldItsValueAndTheMend) {
    const std::vector<Invalid> cases = {
        {[](ModelConfig& c) { c.heads = 7; },
         "heads = 7: must divide channels = 288 (e.g. 6 or 8)"},
        {[](ModelConfig& c) { c.heads = 289; },
         "heads = 289: must divide channels = 288 (e.g. 288)"},
        {[](ModelConfig& c) { c.kv_heads = 4; },
         "kv-heads = 4: must divide heads = 6 (e.g. 3 or 6)"},
        {[](ModelConfig& c) { c.heads = c.kv_heads = 32; },
         "heads = 32: rotary positions need an even head size, but channels / heads = 288 / 32 = "
         "9; change channels, heads or positions"},
        {[](ModelConfig& c) { c.vocabulary_size = 0; },
         "vocabulary-size = 0: must be from 1 to 2147483647"},
        {[](ModelConfig& c) { c.sequence_length = 0; },
         "context-length = 0: must be from 1 to 2147483647"},
        {[](ModelConfig& c) { c.layers = -1; }, "layers = -1: must be from 1 to 2147483647"},
        {[](ModelConfig& c) { c.channels = 0; }, "channels = 0: must be from 1 to 2147483647"},
        {[](ModelConfig& c) { c.kv_heads = 0; }, "kv-heads = 0: must be from 1 to 2147483647"},
        {[](ModelConfig& c) { c.feed_forward = 3'000'000'000; },
         "feed-forward = 3000000000: must be from 1 to 2147483647"},
        {[](ModelConfig& c) { c.norm_epsilon = 0.0; },
         "norm-epsilon = 0: must be a number above 0"},
        {[](ModelConfig& c) { c.rotary_theta = -1.0; },
         "rotary-theta = -1: must be a number above 0"},
        {[](ModelConfig& c) { c.init_std = std::nan(""); },
         "init-std = nan: must be a number above 0"},
        {[](ModelConfig& c) { c.layers = c.feed_forward = 2'000'000'000; },
         "channels = 288: with layers = 2000000000 and feed-forward = 2000000000 the model would "
         "have more than 1e15 parameters; make one of them smaller"},
    };
    for (const Invalid& invalid : cases) {
        ModelConfig config;
        config.vocabulary_size = 100;
        EXPECT_NO_THROW(config.validate());
        invalid.spoil(config);
        try {
            config.validate();
            ADD_FAILURE() << invalid.message;
        } catch (const UsageError& error) {
            EXPECT_EQ(std::string(error.what()), invalid.message);
        }
    }
}

TEST(AlibiTest, SlopesArePowersOfTwoForPowersOfTwo) {
    EXPECT_EQ(alibi_slopes(8), (std::vector<float>{0x1p-1F, 0x1p-2F, 0x1p-3F, 0x1p-4F, 0x1p-5F,
                                                   0x1p-6F, 0x1p-7F, 0x1p-8F}));
    EXPECT_EQ(alibi_slopes(1), std::vector<float>{0x1p-8F});
}

TEST(AlibiTest, OtherHeadCountsTakeEverySecondSlopeOfTwiceTheHeads) {
    const std::vector<float> slopes = alibi_slopes(6);
    const std::vector<float> eight = alibi_slopes(8);
    const std::vector<float> expected = {0x1p-2F, 0x1p-4F, 0x1p-6F, 0x1p-8F, eight[0], eight[2]};
    EXPECT_EQ(slopes, expected);
    EXPECT_EQ(alibi_slopes(112).size(), 112U);
}

TEST(RotaryTest, TableHoldsCosinesThenSines) {
    const std::vector<double> table = rotary_table(5, 6, 10000.0);
    ASSERT_EQ(table.size(), 30U);
    for (int p = 0; p < 5; ++p) {
        for (int i = 0; i < 3; ++i) {
            const double angle = p / std::pow(10000.0, 2.0 * i / 6.0);
            EXPECT_NEAR(table[static_cast<size_t>(p * 6 + i)], std::cos(angle), 1e-14);
            EXPECT_NEAR(table[static_cast<size_t>(p * 6 + 3 + i)], std::sin(angle), 1e-14);
        }
    }
}

TEST(FlopsTest, CountMatrixProductsAndCausalAttention) {
    // GPT-2 124M: 12 blocks of 12 C^2, and the head; positions and the look-up multiply nothing.
    const double matrices = 12.0 * 12.0 * 768.0 * 768.0 + 50257.0 * 768.0;
    EXPECT_EQ(training_flops_per_token(preset("gpt2-124m"), 1024),
              6.0 * matrices + 6.0 * 12.0 * 768.0 * 1024.0);
    // Llama 3 8B: everything but the norms and the input table.
    const double llama = 8'030'261'248.0 - 65.0 * 4096.0 - 128256.0 * 4096.0;
    EXPECT_EQ(training_flops_per_token(preset("llama-8b"), 8192),
              6.0 * llama + 6.0 * 32.0 * 4096.0 * 8192.0);
}

}  // namespace
}  // namespace lathe
