// Whole plans: extrapolation, remedies, searches, pictures.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "plan/picture.h"
#include "plan/search.h"
#include "tests/plan/plans.h"

namespace lathe::testing {
namespace {

Plan plan_8b(int ranks) {
    Plan plan;
    plan.config.preset = "llama-8b";
    plan.config.model = preset("llama-8b");
    plan.config.train.sequence_length = 4096;
    plan.config.train.micro_batch = 1;
    plan.config.train.global_batch = 4 * ranks;
    plan.config.parallel.zero_stage = 3;
    plan.hardware = load_hardware("h100-sxm");
    plan.ranks = ranks;
    return plan;
}

TEST(Plan, MicroBatchesAfterTheFirstFewAreLikeTheLast) {
    // On one rank every round takes the same time, so what is added for them is what they take.
    Plan plan = {.config = small_llama(), .hardware = plain_cpu()};
    const auto step = [&](int64_t micro_batches) {
        plan.config.train.global_batch = micro_batches;
        return dry_run(plan);
    };
    const DryRunResult three = step(3);
    const DryRunResult four = step(4);
    const DryRunResult ten = step(10);
    EXPECT_EQ(ten.rounds, 10);
    EXPECT_EQ(ten.simulated_rounds, 3);
    EXPECT_NEAR(ten.step_s - four.step_s, 6.0 * (four.step_s - three.step_s), 1e-9 * ten.step_s);
    EXPECT_NEAR(ten.step.flops - four.step.flops, 6.0 * (four.step.flops - three.step.flops),
                1e-6 * ten.step.flops);
    EXPECT_EQ(ten.memory.total_peak_bytes, three.memory.total_peak_bytes);
}

TEST(Plan, TheFlopsOfProductsAreThoseOfUtilisation) {
    // 6 per matrix parameter and token; attention is counted with its recomputed scores.
    Plan plan = {.config = small_gpt2(), .hardware = plain_cpu()};
    plan.config.model.vocabulary_size = 192;  // a multiple of 64: no padded columns
    const DryRunResult result = dry_run(plan);
    const double tokens = static_cast<double>(plan.tokens_per_step());
    const ModelConfig& model = plan.config.model;
    const double matrices = static_cast<double>(model.layers * model.channels *
                                                    (4 * model.channels + 2 * model.feed_forward) +
                                                model.channels * model.vocabulary_size);
    EXPECT_NEAR(result.step.class_flops[static_cast<size_t>(OperationClass::matmul)],
                6.0 * matrices * tokens, 1e-6 * matrices * tokens);
}

TEST(Plan, AStepsTimeIsTheSumOfItsParts) {
    for (const int ranks : {1, 8, 12}) {
        Plan plan = plan_8b(8);
        plan.ranks = ranks;
        plan.config.train.global_batch = 4 * ranks;
        plan.config.model.layers = 4;
        const PlanReport report = make_report(plan, {});
        const WorkTotals& step = report.result.step;
        EXPECT_GT(step.compute_s, 0.0);
        EXPECT_LE(step.compute_s + step.exposed_s + step.optimizer_s,
                  report.result.step_s * (1.0 + 1e-9))
            << ranks;
        EXPECT_LT(report.waiting_s, 0.1 * report.result.step_s) << ranks;
    }
}

TEST(Plan, OverlapHidesCommunication) {
    Plan plan = plan_8b(16);
    plan.config.model.layers = 4;
    const double with = dry_run(plan).step_s;
    plan.config.parallel.overlap = false;
    EXPECT_GT(dry_run(plan).step_s, 1.05 * with);
}

TEST(Plan, AnyRankMayBeAsked) {
    Plan plan = {.config = small_llama(), .hardware = plain_cpu(), .ranks = 7};
    plan.config.parallel.zero_stage = 3;
    for (int rank = 0; rank < 7; ++rank) {
        plan.rank = rank;
        EXPECT_GT(dry_run(plan).step_s, 0.0);
    }
}

TEST(Plan, WhatDoesNotFitIsMended) {
    Plan plan = plan_8b(8);
    plan.config.parallel.zero_stage = 0;
    plan.config.model.layers = 8;
    plan.config.model.vocabulary_size = 4096;
    const PlanReport whole = make_report(plan, {});
    plan.hardware.memory_bytes =
        plan.hardware.reserved_memory_bytes + whole.result.memory.total_peak_bytes - 1;
    const PlanReport tight = make_report(plan, {});
    EXPECT_FALSE(tight.fits);
    const auto remedy = find_remedy(plan, {});
    ASSERT_TRUE(remedy);
    EXPECT_EQ(remedy->text, "--zero-stage 1");
    EXPECT_TRUE(remedy->report.fits);
    plan.hardware.memory_bytes = plan.hardware.reserved_memory_bytes + (1 << 20);
    EXPECT_FALSE(find_remedy(plan, {}));
}

TEST(Plan, ASearchRanksWhatFits) {
    Plan plan = {.config = small_llama(), .hardware = load_hardware("a100-40gb"), .ranks = 4};
    plan.config.train.global_batch = 16;
    const Search all = search(plan, {});
    const size_t num_layouts = layouts(plan).size();
    EXPECT_GE(num_layouts, 7U);
    EXPECT_EQ(all.num_layouts, 6 * num_layouts);
    EXPECT_EQ(all.reports.size(), num_layouts) << "all fit as they are";
    for (size_t i = 1; i < all.reports.size(); ++i) {
        EXPECT_GE(all.reports[i - 1].tokens_per_second, all.reports[i].tokens_per_second);
    }
    EXPECT_TRUE(nlohmann::json::accept(search_json(all)));
}

TEST(Plan, ASearchRecomputesAndOffloadsOnlyWhatDoesNotFit) {
    Plan plan = {.config = small_llama(), .hardware = load_hardware("a100-40gb"), .ranks = 2};
    plan.config.train.global_batch = 2;
    plan.config.train.micro_batch = 1;
    std::vector<int64_t> needed;
    for (const Plan& layout : layouts(plan)) {
        needed.push_back(make_report(layout, {}).result.memory.total_peak_bytes);
    }
    std::sort(needed.begin(), needed.end());
    ASSERT_LT(needed.front(), needed.back());
    // The smallest fits and the largest does not.
    plan.hardware.memory_bytes = plan.hardware.reserved_memory_bytes + needed.front();
    const Search found = search(plan, {});
    EXPECT_GT(found.reports.size(), needed.size());
    EXPECT_LT(found.reports.size(), found.num_layouts);
    EXPECT_TRUE(found.reports.front().fits);
    EXPECT_FALSE(found.reports.back().fits);
    for (const PlanReport& report : found.reports) {
        // What recomputes or offloads is there because its less thrifty kind does not fit.
        Plan less = report.plan;
        if (less.config.train.recompute == Recompute::none &&
            less.config.parallel.offload == Offload::none) {
            continue;
        }
        less.config.train.recompute = Recompute::none;
        less.config.parallel.offload = Offload::none;
        EXPECT_FALSE(make_report(less, {}).fits) << layout_text(report.plan);
    }
}

TEST(Plan, ALayoutIsSimulatedForFewStepsWhateverItsBatch) {
    // What makes a search quick: its operations, counted.
    Plan plan = plan_8b(64);
    plan.config.model.layers = 4;
    const auto simulated = [&](int64_t global_batch) {
        plan.config.train.global_batch = global_batch;
        return dry_run(plan).simulated_operations;
    };
    EXPECT_EQ(simulated(64 * 100), simulated(64 * 2));
    EXPECT_LT(simulated(64 * 2), 1.5 * simulated(64)) << "two steps of two rounds, three of one";
    std::printf("%.0f operations for 4 layers on 64 ranks\n", simulated(64 * 2));
}

TEST(Plan, ImpossibleLayoutsAreRejected) {
    const auto rejects = [](const std::function<void(Plan&)>& spoil) {
        Plan plan = {.config = small_llama(), .hardware = load_hardware("a100-40gb"), .ranks = 4};
        spoil(plan);
        EXPECT_THROW(dry_run(plan), UsageError);
    };
    rejects([](Plan& plan) { plan.ranks = 0; });
    rejects([](Plan& plan) { plan.rank = 4; });
    rejects([](Plan& plan) { plan.config.parallel.shard_size = 3; });
    rejects([](Plan& plan) { plan.config.train.micro_batch = 3; });
    rejects([](Plan& plan) { plan.ranks_per_node = 9; });
    rejects([](Plan& plan) { plan.config.model.heads = 5; });
}

TEST(Plan, IsDrawn) {
    Plan plan = {.config = small_gpt2(), .hardware = load_hardware("a100-40gb"), .ranks = 4};
    plan.keep_spans = true;
    const PlanReport report = make_report(plan, {.tokens = 1000000});
    ASSERT_EQ(report.largest.size(), 3U);
    EXPECT_EQ(report.largest[0].moment.total_bytes, report.result.record.peak.total_bytes);
    const std::string picture = step_picture(report);
    EXPECT_TRUE(picture.starts_with("<svg"));
    EXPECT_EQ(picture.find("nan"), std::string::npos);
    EXPECT_LT(picture.size(), 2000000U);
    const auto json = nlohmann::json::parse(report_json(report));
    EXPECT_EQ(json["budget"]["tokens"], 1000000);
    EXPECT_FALSE(report_text(report).empty());
}

}  // namespace
}  // namespace lathe::testing
