// What a profile's records add up to; its trace, held to the format's description ("Trace Event
// Format", Google); its table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "train/profile_summary.h"
#include "train/profile_trace.h"

namespace lathe::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const DeviceInfo kHostDevice = {.kind = "cpu", .name = "a \"processor\""};
const DeviceInfo kOverlapping = {.kind = "cpu", .name = "cpu", .communication_runs_beside = true};
const DeviceInfo kGpu = {
    .kind = "cuda", .name = "gpu", .compute_runs_beside = true, .communication_runs_beside = true};

class ProfileRecords : public ::testing::Test {
  protected:
    void add(const char* name, const char* detail, Lane lane, double begin_ms, double end_ms,
             double flops = 0.0, double bytes = 0.0) {
        WorkRecord& record = recorder_.add(
            {.name = name, .detail = detail, .subject = "", .flops = flops, .bytes = bytes}, lane);
        record.issue_begin_s = record.begin_s = base_s_ + begin_ms * 1e-3;
        record.issue_end_s = record.end_s = base_s_ + end_ms * 1e-3;
    }

    WorkRecorder recorder_;
    double base_s_ = 0.0;
};

TEST_F(ProfileRecords, AddUpByOperationShapeAndPhaseOfSteps) {
    add("Matmul", "a", Lane::host, 0, 5);  // before any step
    for (int64_t step = 3; step < 5; ++step) {
        recorder_.begin_section("step", step);
        recorder_.add_label("forward", "blocks.0");
        add("Matmul", "a", Lane::host, 0, 10, 1e6, 10);
        add("Matmul", "b", Lane::host, 10, 12);
        recorder_.add_label("forward", "blocks.1");
        add("Matmul", "a", Lane::host, 12, 22, 1e6, 10);
        recorder_.add_label("backward", "blocks.1");
        add("Matmul", "a", Lane::host, 22, 27, 1e6, 10);
        add("all_gather", "", Lane::communication, 0, 100);
        recorder_.begin_section("validation", step);
        add("Matmul", "a", Lane::host, 30, 40);
        recorder_.end_section();
        base_s_ += 1.0;
    }
    const ProfileSummary summary = summarize(recorder_, kOverlapping);
    EXPECT_EQ(summary.steps, 2);
    EXPECT_EQ(summary.main, Lane::host);
    EXPECT_DOUBLE_EQ(summary.flops, 6e6);
    EXPECT_NEAR(summary.working_seconds, 0.054, 1e-9);
    ASSERT_EQ(summary.between.size(), 1U);
    EXPECT_STREQ(summary.between[0].kind, "validation");
    ASSERT_EQ(summary.rows.size(), 4U);
    EXPECT_EQ(summary.rows[0].name, "all_gather");
    EXPECT_EQ(summary.rows[1].phase, "forward");
    EXPECT_EQ(summary.rows[1].detail, "a");
    EXPECT_EQ(summary.rows[1].calls, 4);
    EXPECT_NEAR(summary.rows[1].seconds, 0.040, 1e-9);
    EXPECT_DOUBLE_EQ(summary.rows[1].flops, 4e6);
    EXPECT_DOUBLE_EQ(summary.rows[1].bytes, 40);
    EXPECT_EQ(summary.rows[2].phase, "backward");
    EXPECT_EQ(summary.rows[3].detail, "b");
}

TEST_F(ProfileRecords, TimeThatTwoShareIsCountedOnce) {
    recorder_.begin_section("step", 3);
    add("outer", "", Lane::host, 0, 10);
    add("inner", "", Lane::host, 2, 4);
    add("later", "", Lane::host, 9, 12);
    recorder_.end_section();
    EXPECT_NEAR(summarize(recorder_, kHostDevice).working_seconds, 0.012, 1e-9);
}

TEST_F(ProfileRecords, OnAGpuTheComputeStreamIsWhatCounts) {
    recorder_.begin_section("step", 3);
    add("Matmul", "", Lane::compute, 0, 10);
    add("wait for compute", "", Lane::host, 0, 50);
    recorder_.end_section();
    const ProfileSummary summary = summarize(recorder_, kGpu);
    EXPECT_EQ(summary.main, Lane::compute);
    EXPECT_NEAR(summary.working_seconds, 0.010, 1e-9);
}

TEST(Ceilings, WorkIsJudgedByWhatBoundsIt) {
    const Ceilings ceilings = {.flops_per_second = 1e9, .bytes_per_second = 1e8};
    EXPECT_DOUBLE_EQ(ceilings.least_seconds(1e6, 1e4), 1e-3);
    EXPECT_TRUE(ceilings.compute_bounds(1e6, 1e4));
    EXPECT_DOUBLE_EQ(ceilings.least_seconds(1e6, 1e6), 1e-2);
    EXPECT_FALSE(ceilings.compute_bounds(1e6, 1e6));
    EXPECT_DOUBLE_EQ(Ceilings{}.least_seconds(1e6, 1e6), 0.0) << "unknown";
}

TEST(ProfileTable, NamesRatesSharesAndWhatIsLeft) {
    const ProfileSummary summary = {.steps = 2,
                                    .seconds = 0.2,
                                    .working_seconds = 0.15,
                                    .flops = 2e9,
                                    .main = Lane::host,
                                    .rows = {{.name = "Matmul",
                                              .detail = "2x3x4 NN f32",
                                              .phase = "forward",
                                              .lane = Lane::host,
                                              .calls = 4,
                                              .seconds = 0.1,
                                              .flops = 1e9,
                                              .bytes = 1e3},
                                             {.name = "copy",
                                              .detail = "5 f32",
                                              .phase = "input",
                                              .lane = Lane::host,
                                              .calls = 2,
                                              .seconds = 0.05,
                                              .flops = 0.0,
                                              .bytes = 2e8},
                                             {.name = "tiny",
                                              .detail = "",
                                              .phase = "input",
                                              .lane = Lane::host,
                                              .calls = 6,
                                              .seconds = 0.0001}},
                                    .between = {}};
    const std::string text =
        table_text(summary, {.flops_per_second = 2e10, .bytes_per_second = 1e10});
    EXPECT_THAT(text, HasSubstr("2 steps of 100.00 ms and 1.00 GFLOP"));
    EXPECT_THAT(text, ::testing::ContainsRegex(
                          " 50.0% +50.000 +2  Matmul +2x3x4 NN f32 +forward +10.0 GFLOP/s +50%"));
    EXPECT_THAT(text,
                ::testing::ContainsRegex(" 25.0% +25.000 +1  copy +5 f32 +input +4.00 GB/s +40%"));
    EXPECT_THAT(text, ::testing::ContainsRegex("0.1% +0.050 +3  operations below 0.4% each"));
    EXPECT_THAT(text, ::testing::ContainsRegex("75.0% +75.000 +all of these"));
    EXPECT_THAT(text, ::testing::ContainsRegex("25.0% +25.000 +outside of operations"));
    EXPECT_THAT(text, HasSubstr("by phase: forward 50.0%, input 25.1%"));
}

/// The members that the format asks of each kind of event.
void check_event(const json& event) {
    static const std::map<std::string, std::set<std::string>> kMembers = {
        {"X", {"name", "ph", "pid", "tid", "ts", "dur", "args"}},
        {"M", {"name", "ph", "pid", "tid", "args"}},
        {"C", {"name", "ph", "pid", "tid", "ts", "args"}}};
    const std::string kind = event.at("ph");
    ASSERT_TRUE(kMembers.contains(kind)) << event;
    std::set<std::string> members;
    for (const auto& [key, value] : event.items()) {
        members.insert(key);
    }
    EXPECT_EQ(members, kMembers.at(kind)) << event;
    EXPECT_TRUE(event.at("name").is_string());
    EXPECT_TRUE(event.at("pid").is_number_integer());
    EXPECT_TRUE(event.at("tid").is_number_integer());
    EXPECT_TRUE(event.at("args").is_object());
    if (kind == "X") {
        EXPECT_TRUE(event.at("ts").is_number());
        EXPECT_GE(event.at("dur").get<double>(), 0.0) << event;
    }
    if (kind == "M") {
        static const std::set<std::string> kKinds = {"process_name", "thread_name",
                                                     "thread_sort_index"};
        EXPECT_TRUE(kKinds.contains(event.at("name").get<std::string>())) << event;
    }
    if (kind == "C") {
        for (const auto& [key, value] : event.at("args").items()) {
            EXPECT_TRUE(value.is_number()) << event;
        }
    }
}

TEST_F(ProfileRecords, ATraceIsWhatViewersRead) {
    recorder_.begin_section("step", 3);
    base_s_ = recorder_.sections()[0].begin_s;
    recorder_.add_label("forward", "blocks.\"0\"");
    add("Matmul", "2x3x4", Lane::compute, 1, 2.5, 48, 96);
    add("all_gather", "", Lane::communication, 2, 4, 0, 1000);
    recorder_.add_label("end", "");
    recorder_.sample_memory({1, 2, 3, 4, 5, 6, 7});
    recorder_.end_section();
    const std::string text =
        trace_json(recorder_, kGpu, {.rank = 2, .name = "rank \"2\" \xff", .zero_s = base_s_});
    const json trace = json::parse(text);
    std::map<int, std::string> lanes;
    std::vector<json> spans;
    for (const json& event : trace.at("traceEvents")) {
        check_event(event);
        EXPECT_EQ(event.at("pid"), 2);
        if (event.at("name") == "thread_name") {
            lanes[event.at("tid")] = event.at("args").at("name");
        }
        if (event.at("ph") == "X") {
            spans.push_back(event);
        }
    }
    EXPECT_EQ(lanes.size(), 5U);
    std::map<std::string, int> spans_of_lane;
    for (const json& span : spans) {
        ASSERT_TRUE(lanes.contains(span.at("tid"))) << span;
        ++spans_of_lane[lanes[span.at("tid")]];
    }
    EXPECT_EQ(spans_of_lane, (std::map<std::string, int>{{"steps", 1},
                                                         {"phases", 1},
                                                         {"host", 2},
                                                         {"compute stream", 1},
                                                         {"communication stream", 1}}));
    const auto product = std::find_if(spans.begin(), spans.end(), [&](const json& span) {
        return lanes[span.at("tid")] == "compute stream";
    });
    EXPECT_EQ(product->at("name"), "Matmul");
    EXPECT_NEAR(product->at("ts").get<double>(), 1000.0, 0.01);
    EXPECT_NEAR(product->at("dur").get<double>(), 1500.0, 0.01);
    EXPECT_EQ(product->at("args"), json::parse(R"({"flops": 48, "bytes": 96, "shape": "2x3x4",
        "subject": "", "phase": "forward", "unit": "blocks.\"0\"", "step": 3})"));
}

}  // namespace
}  // namespace lathe::testing
