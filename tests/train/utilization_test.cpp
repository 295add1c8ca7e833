#include "train/utilization.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace lathe {
namespace {

/// 10 FLOPs a token; the device shows `ceilings` one after another.
class UtilizationTest : public testing::Test {
  protected:
    Utilization make(std::vector<double> ceilings) {
        return {10.0,
                [this, ceilings = std::move(ceilings)] { return ceilings.at(num_measured_++); },
                [this] { return now_; }};
    }

    size_t num_measured_ = 0;
    double now_ = 100.0;
};

TEST_F(UtilizationTest, IsTheFractionOfTheCeiling) {
    Utilization utilization = make({1000});
    EXPECT_EQ(utilization.ceiling(), 0);
    EXPECT_TRUE(utilization.outdone(50)) << "nothing is measured yet";
    utilization.measure();
    EXPECT_EQ(utilization.ceiling(), 1000);
    EXPECT_FALSE(utilization.outdone(50));
    EXPECT_EQ(utilization.of(50), 0.5);
    EXPECT_EQ(utilization.of(25), 0.25);
}

TEST_F(UtilizationTest, ACeilingMeasuredOnABusyMachineIsMeasuredAgain) {
    Utilization utilization = make({400, 1000});
    utilization.measure();
    ASSERT_TRUE(utilization.outdone(80));
    utilization.measure();
    EXPECT_FALSE(utilization.outdone(80));
    EXPECT_EQ(utilization.of(80), 0.8);
}

TEST_F(UtilizationTest, TheBestMeasurementCounts) {
    Utilization utilization = make({1000, 300});
    utilization.measure();
    utilization.measure();
    EXPECT_EQ(utilization.ceiling(), 1000);
}

TEST_F(UtilizationTest, OnAMachineThatStaysBusyTheFastestStepIsTheCeiling) {
    Utilization utilization = make({400, 300, 1000});
    utilization.measure();
    ASSERT_TRUE(utilization.outdone(80));
    utilization.measure();
    EXPECT_FALSE(utilization.outdone(80)) << "measuring takes time from training";
    EXPECT_EQ(utilization.of(80), 1.0);
    EXPECT_EQ(utilization.of(40), 0.5);
    now_ += Utilization::kRest_s;
    EXPECT_FALSE(utilization.outdone(80)) << "it is no longer outdone";
    ASSERT_TRUE(utilization.outdone(90));
    utilization.measure();
    EXPECT_EQ(utilization.of(90), 0.9);
}

}  // namespace
}  // namespace lathe
