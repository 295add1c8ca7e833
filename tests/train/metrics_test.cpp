#include "train/metrics.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <vector>

#include "kernels/error.h"
#include "kernels/files.h"
#include "tests/support/temporary_folder.h"

namespace lathe {
namespace {

StepMetrics step_metrics(int64_t step) {
    StepMetrics metrics;
    metrics.step = step;
    metrics.loss = 10.0 / static_cast<double>(step);
    metrics.learning_rate = 1e-3;
    metrics.gradient_norm = 0.5;
    metrics.tokens = 2048 * step;
    metrics.tokens_per_second = 12345.678;
    metrics.utilization = 0.5;
    metrics.exposed_communication_s = 0.25;
    metrics.sent_bytes = 4096;
    return metrics;
}

std::vector<nlohmann::json> lines_of(const std::string& file) {
    std::istringstream stream(read_file(file));
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(stream, line);) {
        lines.push_back(nlohmann::json::parse(line));
    }
    return lines;
}

std::vector<int64_t> steps_of(const std::string& file) {
    std::vector<int64_t> steps;
    for (const auto& line : lines_of(file)) {
        steps.push_back(line["step"]);
    }
    return steps;
}

std::vector<int64_t> range(int64_t first, int64_t last) {
    std::vector<int64_t> steps;
    for (int64_t step = first; step <= last; ++step) {
        steps.push_back(step);
    }
    return steps;
}

void write_steps(const std::string& folder, int64_t resume_step, int64_t last) {
    MetricsLog log(folder, resume_step);
    for (int64_t step = resume_step + 1; step <= last; ++step) {
        log.write(step_metrics(step));
    }
    log.sync();
}

TEST(MetricsLine, NumbersReadBackToTheSameBits) {
    std::mt19937_64 random(1);
    std::vector<double> values = {0.0,
                                  -0.0,
                                  1.0,
                                  0.1,
                                  1e-5,
                                  1e22,
                                  3.0,
                                  std::numeric_limits<double>::denorm_min(),
                                  std::numeric_limits<double>::max()};
    while (values.size() < 2000) {
        const auto value = std::bit_cast<double>(random());
        if (std::isfinite(value)) {
            values.push_back(value);
        }
    }
    for (const double value : values) {
        StepMetrics metrics = step_metrics(1);
        metrics.loss = value;
        metrics.validation_loss = value;
        metrics.bits_per_byte = -value;
        const auto json = nlohmann::json::parse(metrics_line(metrics));
        EXPECT_EQ(std::bit_cast<uint64_t>(json["loss"].get<double>()),
                  std::bit_cast<uint64_t>(value));
        EXPECT_EQ(json["validation_loss"].get<double>(), value);
        EXPECT_EQ(json["bits_per_byte"].get<double>(), -value);
    }
}

TEST(MetricsLine, HoldsWhatWasMeasuredAndNothingElse) {
    EXPECT_EQ(metrics_line(step_metrics(4)),
              "{\"step\": 4, \"loss\": 2.5, \"learning_rate\": 0.001, \"gradient_norm\": 0.5, "
              "\"tokens\": 8192, \"tokens_per_second\": 12345.678, \"utilization\": 0.5, "
              "\"exposed_communication_s\": 0.25, \"sent_bytes\": 4096}\n");
    StepMetrics metrics = step_metrics(4);
    metrics.skipped = true;
    metrics.validation_loss = 3.0;
    const auto json = nlohmann::json::parse(metrics_line(metrics));
    EXPECT_EQ(json["skipped"], true);
    EXPECT_EQ(json["validation_loss"], 3.0);
    EXPECT_FALSE(json.contains("bits_per_byte"));
}

TEST(MetricsLine, NotFiniteNumbersStayJson) {
    StepMetrics metrics = step_metrics(1);
    metrics.loss = std::numeric_limits<double>::quiet_NaN();
    metrics.gradient_norm = std::numeric_limits<double>::infinity();
    metrics.utilization = -std::numeric_limits<double>::infinity();
    const auto json = nlohmann::json::parse(metrics_line(metrics));
    EXPECT_EQ(json["loss"], "NaN");
    EXPECT_EQ(json["gradient_norm"], "Infinity");
    EXPECT_EQ(json["utilization"], "-Infinity");
}

TEST(MetricsLog, EachStepIsInTheFileWhenWriteReturns) {
    const TemporaryFolder folder;
    MetricsLog log(folder.path(), 0);
    for (int64_t step = 1; step <= 3; ++step) {
        log.write(step_metrics(step));
        EXPECT_EQ(steps_of(folder.file("metrics.jsonl")), range(1, step));
    }
    EXPECT_EQ(log.resume_warning(), "");
}

TEST(MetricsLog, ResumingCutsBackToTheCheckpointsStep) {
    for (const int64_t resume_step : {0, 1, 9, 10}) {
        const TemporaryFolder folder;
        write_steps(folder.path(), 0, 10);
        MetricsLog log(folder.path(), resume_step);
        EXPECT_EQ(steps_of(folder.file("metrics.jsonl")), range(1, resume_step));
        EXPECT_EQ(log.resume_warning(), "");
        log.write(step_metrics(resume_step + 1));
        EXPECT_EQ(steps_of(folder.file("metrics.jsonl")), range(1, resume_step + 1));
    }
}

TEST(MetricsLog, ResumedFileEqualsTheUninterruptedOne) {
    const TemporaryFolder through;
    const TemporaryFolder resumed;
    write_steps(through.path(), 0, 20);
    write_steps(resumed.path(), 0, 13);
    write_steps(resumed.path(), 7, 20);
    EXPECT_EQ(read_file(through.file("metrics.jsonl")), read_file(resumed.file("metrics.jsonl")));
}

TEST(MetricsLog, TornLastLineIsDroppedWhereverItWasTorn) {
    const TemporaryFolder folder;
    write_steps(folder.path(), 0, 5);
    const std::string file = folder.file("metrics.jsonl");
    const std::string whole = read_file(file);
    const size_t last_line = whole.rfind('\n', whole.size() - 2) + 1;
    for (size_t size = last_line; size < whole.size(); ++size) {
        write_file(file, whole.substr(0, size));
        MetricsLog log(folder.path(), 4);
        EXPECT_EQ(log.resume_warning(), "");
        log.write(step_metrics(5));
        EXPECT_EQ(read_file(file), whole) << "torn after " << size << " bytes";
    }
}

TEST(MetricsLog, MissingStepsAreWarnedOf) {
    const TemporaryFolder folder;
    write_steps(folder.path(), 0, 5);
    MetricsLog log(folder.path(), 8);
    EXPECT_EQ(log.resume_warning(), folder.file("metrics.jsonl") +
                                        ": ends at step 5 although the run goes on from step 8; "
                                        "the steps between have no metrics");
    log.write(step_metrics(9));
    EXPECT_EQ(steps_of(folder.file("metrics.jsonl")), (std::vector<int64_t>{1, 2, 3, 4, 5, 9}));
    const TemporaryFolder empty;
    EXPECT_NE(MetricsLog(empty.path(), 3).resume_warning(), "");
}

TEST(MetricsLog, FolderThatCannotBeWrittenIsNamed) {
    const TemporaryFolder folder;
    std::filesystem::create_directory(folder.file("metrics.jsonl"));
    try {
        MetricsLog log(folder.path(), 0);
        FAIL() << "a folder was opened as a file";
    } catch (const Error& error) {
        EXPECT_TRUE(std::string(error.what()).starts_with(folder.file("metrics.jsonl") + ": "));
    }
}

/// While it lives no file grows beyond `bytes`: as on a full disk, a write stops half-way.
class FileSizeLimit {
  public:
    explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit limit{bytes, before_.rlim_max};
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    ~FileSizeLimit() {
        setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }
    FileSizeLimit(const FileSizeLimit&) = delete;
    FileSizeLimit& operator=(const FileSizeLimit&) = delete;

  private:
    rlimit before_{};
    void (*handler_)(int);
};

TEST(MetricsLog, FullDiskIsAnErrorThatLeavesWholeLines) {
    const TemporaryFolder folder;
    std::string message;
    {
        MetricsLog log(folder.path(), 0);
        const FileSizeLimit limit(1000);
        try {
            for (int64_t step = 1; step <= 20; ++step) {
                log.write(step_metrics(step));
            }
        } catch (const Error& error) {
            message = error.what();
        }
    }
    EXPECT_TRUE(message.starts_with(folder.file("metrics.jsonl") + ": cannot be written: ") ||
                message.starts_with(folder.file(MetricsLog::kEventFileName)))
        << message;
    const std::string text = read_file(folder.file("metrics.jsonl"));
    EXPECT_GT(text.size(), 500U);
    EXPECT_EQ(text.back(), '\n');
    EXPECT_GE(steps_of(folder.file("metrics.jsonl")).size(), 4U);
}

}  // namespace
}  // namespace lathe
