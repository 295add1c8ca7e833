#include "train/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <sstream>
#include <vector>

namespace lathe {
namespace {

StepMetrics step_metrics(int64_t step) {
    StepMetrics metrics;
    metrics.step = step;
    metrics.loss = 4.0;
    metrics.learning_rate = 1e-3;
    metrics.gradient_norm = 0.5;
    metrics.tokens_per_second = 23456.0;
    metrics.utilization = 0.5;
    return metrics;
}

/// A place to print to, with a clock and a width that the test sets.
class Screen {
  public:
    Screen(bool is_terminal, int columns) : is_terminal_(is_terminal), columns_(columns) {
        file_ = open_memstream(&text_, &size_);
    }
    ~Screen() {
        std::fclose(file_);
        std::free(text_);
    }
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;

    ProgressOutput output() {
        return {.file = file_,
                .is_terminal = is_terminal_,
                .columns = [this] { return columns_; },
                .seconds = [this] { return now_; }};
    }
    void wait(double seconds) { now_ += seconds; }
    void resize(int columns) { columns_ = columns; }
    std::string text() const {
        std::fflush(file_);
        return std::string(text_, size_);
    }
    /// What was printed, cut at `separator`.
    std::vector<std::string> parts(char separator) const {
        std::vector<std::string> parts;
        std::istringstream stream(text());
        for (std::string part; std::getline(stream, part, separator);) {
            parts.push_back(part);
        }
        return parts;
    }

  private:
    bool is_terminal_;
    int columns_;
    double now_ = 100.0;
    std::FILE* file_ = nullptr;
    char* text_ = nullptr;
    size_t size_ = 0;
};

TEST(ProgressPlain, PrintsFirstLastValidationAndOneEveryTenSeconds) {
    Screen screen(false, 80);
    Progress progress(100, 0, screen.output());
    for (int64_t step = 1; step <= 100; ++step) {
        screen.wait(1.0);
        StepMetrics metrics = step_metrics(step);
        if (step == 15) {
            metrics.validation_loss = 5.0;
        }
        progress.update(metrics);
    }
    progress.finish();
    std::vector<int64_t> steps;
    for (const std::string& line : screen.parts('\n')) {
        steps.push_back(std::atoll(line.substr(5).c_str()));
        EXPECT_EQ(line.find('\r'), std::string::npos);
    }
    EXPECT_EQ(steps, (std::vector<int64_t>{1, 11, 15, 25, 35, 45, 55, 65, 75, 85, 95, 100}));
}

TEST(ProgressPlain, LineHoldsEveryNumber) {
    Screen screen(false, 80);
    Progress progress(100, 50, screen.output());
    screen.wait(2.0);
    StepMetrics metrics = step_metrics(51);
    metrics.validation_loss = 5.0;
    metrics.skipped = true;
    progress.update(metrics);
    EXPECT_EQ(screen.text(),
              "step 51/100  loss 4.0000  skipped  held-out 5.0000  23.5k tok/s  50% of peak  "
              "lr 1.00e-03  norm 0.50  1:38 left\n");
}

TEST(ProgressPlain, FinishShowsTheStepThatStoppedTheRun) {
    Screen screen(false, 80);
    Progress progress(100, 0, screen.output());
    progress.update(step_metrics(1));
    progress.update(step_metrics(2));
    progress.finish();
    progress.finish();
    ASSERT_EQ(screen.parts('\n').size(), 2U);
    EXPECT_TRUE(screen.parts('\n')[1].starts_with("step 2/100"));
}

TEST(ProgressTerminal, RedrawsOneLineAtMostTenTimesASecond) {
    Screen screen(true, 200);
    Progress progress(1000, 0, screen.output());
    for (int64_t step = 1; step <= 1000; ++step) {
        screen.wait(0.01);
        progress.update(step_metrics(step));
    }
    const size_t draws = screen.parts('\r').size() - 1;  // the first part is empty
    EXPECT_GE(draws, 90U);
    EXPECT_LE(draws, 102U);
    EXPECT_EQ(screen.text().find('\n'), std::string::npos);
    EXPECT_TRUE(screen.parts('\r').back().starts_with("step 1000/1000"));
    progress.finish();
    EXPECT_EQ(screen.text().back(), '\n');
}

TEST(ProgressTerminal, LineIsNeverWiderThanTheTerminal) {
    for (int columns = 1; columns <= 130; ++columns) {
        Screen screen(true, 130);
        Progress progress(100, 0, screen.output());
        screen.resize(columns);
        StepMetrics metrics = step_metrics(1);
        metrics.validation_loss = 5.0;
        progress.update(metrics);
        const std::string line = screen.parts('\r').back();
        const size_t visible = line.find('\x1b');
        EXPECT_LT(visible, static_cast<size_t>(std::max(columns, 2)));
        EXPECT_TRUE(line.starts_with(std::string("step 1/100").substr(0, visible)));
        if (columns > 40) {
            EXPECT_NE(line.find("loss 4.0000"), std::string::npos);
            EXPECT_NE(line.find("left"), std::string::npos) << "time left goes last";
        }
    }
}

TEST(ProgressTerminal, HeldOutLossStaysUntilTheNextOne) {
    Screen screen(true, 200);
    Progress progress(100, 0, screen.output());
    StepMetrics metrics = step_metrics(1);
    metrics.validation_loss = 5.0;
    progress.update(metrics);
    screen.wait(1.0);
    progress.update(step_metrics(2));
    EXPECT_NE(screen.parts('\r').back().find("held-out 5.0000"), std::string::npos);
}

TEST(Progress, DurationsAreReadable) {
    EXPECT_EQ(duration_text(0.2), "0:00");
    EXPECT_EQ(duration_text(59.6), "1:00");
    EXPECT_EQ(duration_text(754), "12:34");
    EXPECT_EQ(duration_text(3723), "1:02:03");
    EXPECT_EQ(duration_text(3 * 86400 + 4 * 3600 + 5 * 60), "3d 04:05");
    EXPECT_EQ(duration_text(-1), "0:00");
    EXPECT_FALSE(duration_text(std::numeric_limits<double>::infinity()).empty());
}

}  // namespace
}  // namespace lathe
