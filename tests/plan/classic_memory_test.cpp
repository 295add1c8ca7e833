// The classic figures: what papers and courses print, and Lathe's own line against its formulas.
#include "plan/classic_memory.h"

#include <gtest/gtest.h>

#include "parallel/memory_formula.h"
#include "tests/plan/plans.h"

namespace lathe::testing {
namespace {

TEST(ClassicMemory, ReproducesTheZeroPapersRow) {
    // Rajbhandari et al., arXiv 1910.02054, figure 1: 7.5B parameters on 64 GPUs, in GB.
    constexpr double kPrinted[] = {120.0, 31.4, 16.6, 1.9};
    for (int stage = 0; stage < 4; ++stage) {
        EXPECT_NEAR(classic_bytes(classic_mixed(), 7.5e9, 64.0, stage) / 1e9, kPrinted[stage],
                    0.05);
    }
    const std::string text = classic_memory_text(7.5e9, 64);
    for (const char* printed : {"120.0 GB", "31.4 GB", "16.6 GB", "1.9 GB"}) {
        EXPECT_NE(text.find(printed), std::string::npos) << printed << "\n" << text;
    }
}

TEST(ClassicMemory, SaysThatTheSumAndTheQuotedFigureDisagree) {
    EXPECT_EQ(1e9 * classic_f32().all(), 24e9);
    const std::string text = classic_memory_text(1e9, 1);
    EXPECT_NE(text.find("disagree: in f32 24.0 GB against 80.0 GB"), std::string::npos) << text;
}

TEST(ClassicMemory, LathesLineIsItsFormulas) {
    const RunConfig config = small_llama();
    const auto parameters = static_cast<double>(ParamLayout(config.model).num_parameters());
    for (const bool mixed : {false, true}) {
        for (const int ranks : {1, 4, 64}) {
            for (int stage = 0; stage < 4; ++stage) {
                ParallelConfig parallel;
                parallel.zero_stage = stage;
                const RankMemory memory =
                    rank_memory(config.model, parallel, mixed ? DType::bf16 : DType::f32, 64,
                                {.rank = 0, .world_size = ranks});
                EXPECT_NEAR(lathe_bytes(mixed, parameters, ranks, stage),
                            memory.parameters.ideal_bytes + memory.gradients.ideal_bytes +
                                memory.optimizer.ideal_bytes,
                            1.0)
                    << mixed << ", " << ranks << " ranks, stage " << stage;
            }
        }
    }
}

}  // namespace
}  // namespace lathe::testing
