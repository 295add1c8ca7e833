// Hardware descriptions: what is shipped is whole, what is wrong is told in one line.
#include "plan/hardware.h"

#include <gtest/gtest.h>

#include <fstream>

#include "plan/calibration.h"
#include "tests/support/temporary_folder.h"

namespace lathe::testing {
namespace {

std::string complaint_about(const std::string& text) {
    const TemporaryFolder folder;
    const std::string file = folder.file("device.toml");
    std::ofstream(file) << text;
    try {
        load_hardware(file);
    } catch (const UsageError& error) {
        const std::string told = error.what();
        EXPECT_EQ(told.find('\n'), std::string::npos);
        return told.substr(told.find("device.toml"));
    }
    return "nothing";
}

std::string a100_with(const std::string& key, const std::string& line) {
    std::string text = to_toml(load_hardware("a100-80gb"), "");
    const size_t begin = text.find("\n" + key + " = ") + 1;
    return text.replace(begin, text.find('\n', begin) - begin, line);
}

TEST(Hardware, EveryShippedDescriptionIsWhole) {
    const std::vector<std::string> names = hardware_names();
    for (const char* name :
         {"a100-40gb", "a100-80gb", "h100-sxm", "h100-pcie", "h200", "b200", "l40s", "rtx4090"}) {
        EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
    }
    for (const std::string& name : names) {
        const Hardware hardware = load_hardware(name);
        EXPECT_GT(hardware.memory_bytes_per_second, 1e9) << name;
        EXPECT_GE(hardware.bf16_flops, 1e9) << name;
        EXPECT_GT(hardware.memory_bytes, int64_t{1} << 30) << name;
    }
}

TEST(Hardware, WhatIsWrittenReadsBack) {
    const TemporaryFolder folder;
    const std::string file = folder.file("again.toml");
    for (const std::string& name : hardware_names()) {
        const std::string text = to_toml(load_hardware(name), "# a comment\n");
        std::ofstream(file) << text;
        EXPECT_EQ(to_toml(load_hardware(file), "# a comment\n"), text);
    }
}

TEST(Hardware, ThisCpuIsMeasuredWhole) {
    const TemporaryFolder folder;
    const Hardware here = measure_this_cpu(1, DType::f32);
    EXPECT_EQ(here.cores, 1);
    for (int i = 0; i < kNumOperationClasses; ++i) {
        const auto& points = here.fractions[static_cast<size_t>(i)].points();
        ASSERT_FALSE(points.empty()) << name_of(static_cast<OperationClass>(i));
        EXPECT_GT(points.front().first, 1.0) << name_of(static_cast<OperationClass>(i));
    }
    std::ofstream(folder.file("here.toml")) << to_toml(here, "# measured\n");
    EXPECT_EQ(to_toml(load_hardware(folder.file("here.toml")), "# measured\n"),
              to_toml(here, "# measured\n"));
}

TEST(Hardware, ADescriptionMayBeLikeAShippedOne) {
    const TemporaryFolder folder;
    std::ofstream(folder.file("slow.toml"))
        << "[device]\nlike = \"a100-80gb\"\nwatts = 300\n[between-nodes]\n"
           "gigabytes-per-second = 6.25\n";
    const Hardware slow = load_hardware(folder.file("slow.toml"));
    Hardware expected = load_hardware("a100-80gb");
    expected.watts = 300.0;
    expected.between_nodes.bytes_per_second = 6.25e9;
    EXPECT_EQ(to_toml(slow, ""), to_toml(expected, ""));
    EXPECT_EQ(complaint_about("[device]\nlike = \"a100\"\n").substr(0, 43),
              "device.toml:2: like = a100: must be one of ");
}

TEST(Hardware, MistakesAreTold) {
    EXPECT_EQ(complaint_about("[device]\ntarget = \"tpu\"\n"),
              "device.toml: target = tpu: must be cpu or cuda");
    EXPECT_NE(
        complaint_about(a100_with("watts", "wats = 400.0")).find("did you mean device.watts?"),
        std::string::npos);
    EXPECT_NE(complaint_about(a100_with("bf16-teraflops", "bf16-teraflops = 0"))
                  .find("bf16-teraflops of [device] must be a number from"),
              std::string::npos);
    EXPECT_NE(
        complaint_about(a100_with("matmul", "matmul = [[64, 0.5], [64, 0.6]]")).find("must ascend"),
        std::string::npos);
    EXPECT_NE(complaint_about("[device\n").find("device.toml:1: "), std::string::npos);
    EXPECT_THROW(load_hardware("a100"), UsageError);
}

TEST(AchievableFraction, IsAStraightLineOverTheLogarithm) {
    const AchievableFraction fraction({{10.0, 0.2}, {1000.0, 0.6}});
    EXPECT_EQ(fraction.at(1.0), 0.2);
    EXPECT_EQ(fraction.at(10.0), 0.2);
    EXPECT_NEAR(fraction.at(100.0), 0.4, 1e-12);
    EXPECT_EQ(fraction.at(1e6), 0.6);
}

}  // namespace
}  // namespace lathe::testing
