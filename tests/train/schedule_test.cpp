#include "train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace lathe {
namespace {

OptimizerConfig config_of(ScheduleKind schedule, int64_t warmup_steps) {
    OptimizerConfig config;
    config.learning_rate = 2e-3;
    config.schedule = schedule;
    config.warmup_steps = warmup_steps;
    config.final_learning_rate = 0.1;
    config.decay_fraction = 0.25;
    return config;
}

// A few roundings of a value near the peak.
constexpr double kTolerance = 2e-3 * 8 * std::numeric_limits<double>::epsilon();

class EverySchedule : public testing::TestWithParam<ScheduleKind> {};

TEST_P(EverySchedule, WarmsUpLinearlyToThePeak) {
    const OptimizerConfig config = config_of(GetParam(), 10);
    for (int64_t step = 1; step <= 10; ++step) {
        EXPECT_NEAR(learning_rate(config, step, 100), 2e-3 * static_cast<double>(step) / 10,
                    kTolerance);
    }
    EXPECT_EQ(learning_rate(config, 10, 100), 2e-3);
}

TEST_P(EverySchedule, ARunThatEndsWithinItsWarmUpBeginsLikeALongOne) {
    for (int64_t step = 1; step <= 5; ++step) {
        EXPECT_EQ(learning_rate(config_of(GetParam(), 10), step, 5),
                  learning_rate(config_of(GetParam(), 10), step, 100));
    }
}

TEST_P(EverySchedule, NeverRisesAfterTheWarmUpAndEndsAtTheFinalRate) {
    for (const int64_t warmup_steps : {0, 1, 10}) {
        const OptimizerConfig config = config_of(GetParam(), warmup_steps);
        double before = 2e-3;
        for (int64_t step = warmup_steps + 1; step <= 100; ++step) {
            const double rate = learning_rate(config, step, 100);
            EXPECT_LE(rate, before) << step;
            before = rate;
        }
        EXPECT_NEAR(before, GetParam() == ScheduleKind::constant ? 2e-3 : 2e-4, kTolerance);
        EXPECT_EQ(learning_rate(config, 101, 100), before);
    }
}

TEST_P(EverySchedule, IsFiniteForRunsThatAreAllWarmUpOrOneStep) {
    EXPECT_EQ(learning_rate(config_of(GetParam(), 5), 5, 5), 2e-3);
    EXPECT_TRUE(std::isfinite(learning_rate(config_of(GetParam(), 5), 6, 5)));
    EXPECT_TRUE(std::isfinite(learning_rate(config_of(GetParam(), 0), 1, 1)));
}

INSTANTIATE_TEST_SUITE_P(Schedules, EverySchedule,
                         testing::Values(ScheduleKind::constant, ScheduleKind::cosine,
                                         ScheduleKind::linear, ScheduleKind::warmup_stable_decay));

TEST(Schedule, CosineFollowsItsFormula) {
    const OptimizerConfig config = config_of(ScheduleKind::cosine, 20);
    EXPECT_NEAR(learning_rate(config, 60, 100), 2e-3 * 0.55, kTolerance);
    const double third = 0.1 + 0.9 * (1 + std::cos(std::numbers::pi / 4)) / 2;
    EXPECT_NEAR(learning_rate(config, 40, 100), 2e-3 * third, kTolerance);
}

TEST(Schedule, LinearFollowsItsFormula) {
    const OptimizerConfig config = config_of(ScheduleKind::linear, 20);
    EXPECT_NEAR(learning_rate(config, 60, 100), 2e-3 * 0.55, kTolerance);
}

TEST(Schedule, WarmupStableDecayStaysAtThePeakUntilTheLastFraction) {
    const OptimizerConfig config = config_of(ScheduleKind::warmup_stable_decay, 10);
    EXPECT_EQ(learning_rate(config, 11, 100), 2e-3);
    EXPECT_EQ(learning_rate(config, 75, 100), 2e-3);
    EXPECT_NEAR(learning_rate(config, 80, 100), 2e-3 * (1 - 0.2 * 0.9), kTolerance);
    EXPECT_NEAR(learning_rate(config, 100, 100), 2e-4, kTolerance);
}

}  // namespace
}  // namespace lathe
