// Plans against runs that others have published, by the shipped descriptions as they are: what
// these reach of their peaks was set before any of these comparisons. The runs are of other
// programs; a plan is of Lathe with their shapes and layouts.
#include <gtest/gtest.h>

#include "plan/dry_run.h"

namespace lathe::testing {
namespace {

constexpr double kTolerance = 0.15;

Plan gpt2_on_eight(const char* hardware) {
    Plan plan;
    plan.config.model = preset("gpt2-124m");
    plan.config.train.sequence_length = 1024;
    plan.config.train.micro_batch = 64;
    plan.config.train.global_batch = 512;  // 524,288 tokens
    plan.config.parallel.zero_stage = 1;
    plan.config.parallel.reduction = Reduction::native;
    plan.hardware = load_hardware(hardware);
    plan.ranks = 8;
    return plan;
}

TEST(PublishedRuns, Gpt2OfLlmCOnEightA100) {
    // llm.c: about 300 ms for 524,288 tokens, T = 1024, bf16, ZeRO-1 (its README and discussion
    // 481).
    EXPECT_NEAR(dry_run(gpt2_on_eight("a100-80gb")).step_s, 0.300, kTolerance * 0.300);
}

TEST(PublishedRuns, Gpt2OfLlmCOnEightH100) {
    // 10B tokens in 45 minutes (README of KellerJordan/modded-nanogpt, on llm.c's replication):
    // 19,073 steps of 524,288 tokens.
    const double step_s = 45.0 * 60.0 / 19073.0;
    EXPECT_NEAR(dry_run(gpt2_on_eight("h100-sxm")).step_s, step_s, kTolerance * step_s);
}

/// github.com/foundation-model-stack/fms-fsdp: Llama 2 7B, 4,096 tokens, two sequences a GPU, no
/// recomputation, sharded within a node and replicated over nodes (HSDP), parameters and gradients
/// exchanged in bf16.
double fms_tokens_per_second(const char* hardware, int ranks, double node_gigabits) {
    Plan plan;
    plan.config.model = preset("llama-8b");
    plan.config.model.vocabulary_size = 32000;
    plan.config.model.kv_heads = 32;
    plan.config.model.feed_forward = 11008;
    plan.config.train.sequence_length = 4096;
    plan.config.train.micro_batch = 2;
    plan.config.train.global_batch = 2 * ranks;
    plan.config.parallel.zero_stage = 3;
    plan.config.parallel.shard_size = 8;
    plan.config.parallel.reduction = Reduction::native;
    plan.config.parallel.gradient_dtype = DType::bf16;
    plan.hardware = load_hardware(hardware);
    plan.hardware.between_nodes.bytes_per_second = node_gigabits * 1e9 / 8.0 / 8.0;
    plan.ranks = ranks;
    const DryRunResult result = dry_run(plan);
    EXPECT_NEAR(static_cast<double>(result.num_parameters), 6.738e9, 0.001e9);
    return static_cast<double>(plan.tokens_per_step()) / result.step_s / ranks;
}

TEST(PublishedRuns, Llama7BOfFmsOn128A100) {
    EXPECT_NEAR(fms_tokens_per_second("a100-80gb", 128, 400.0), 3700.0, kTolerance * 3700.0);
}

TEST(PublishedRuns, Llama7BOfFmsOn96H100) {
    EXPECT_NEAR(fms_tokens_per_second("h100-sxm", 96, 800.0), 7500.0, kTolerance * 7500.0);
}

}  // namespace
}  // namespace lathe::testing
