#include "train/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <vector>

namespace lathe {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr double kPlainSeconds = 10.0;
constexpr int kUnknownColumns = 80;

/// A piece of the line; of those that do not fit, the highest rank goes first. Rank 0 stays.
struct Piece {
    int rank = 0;
    std::string text;
};

std::string join(const std::vector<Piece>& pieces) {
    std::string line;
    for (const Piece& piece : pieces) {
        line += line.empty() ? "" : "  ";
        line += piece.text;
    }
    return line;
}

/// The pieces as a line of at most `columns` characters.
std::string fit(std::vector<Piece> pieces, size_t columns) {
    while (join(pieces).size() > columns) {
        const auto least =
            std::max_element(pieces.begin(), pieces.end(),
                             [](const Piece& a, const Piece& b) { return a.rank < b.rank; });
        if (least->rank == 0) {
            break;
        }
        pieces.erase(least);
    }
    return join(pieces).substr(0, columns);
}

std::string rate_text(double tokens_per_second) {
    if (tokens_per_second >= 1e6) {
        return fmt::format("{:.2f}M tok/s", tokens_per_second / 1e6);
    }
    if (tokens_per_second >= 1e4) {
        return fmt::format("{:.1f}k tok/s", tokens_per_second / 1e3);
    }
    return fmt::format("{:.0f} tok/s", tokens_per_second);
}

}  // namespace

std::string duration_text(double seconds) {
    const auto whole = static_cast<int64_t>(std::clamp(seconds, 0.0, 1e15) + 0.5);
    const int64_t minutes = whole / 60;
    const int64_t hours = minutes / 60;
    if (hours >= 24) {
        return fmt::format("{}d {:02}:{:02}", hours / 24, hours % 24, minutes % 60);
    }
    if (hours > 0) {
        return fmt::format("{}:{:02}:{:02}", hours, minutes % 60, whole % 60);
    }
    return fmt::format("{}:{:02}", minutes, whole % 60);
}

ProgressOutput ProgressOutput::standard() {
    return {.file = stdout,
            .is_terminal = ::isatty(STDOUT_FILENO) != 0,
            .columns =
                [] {
                    winsize size{};
                    const bool known =
                        ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
                    return known ? int{size.ws_col} : kUnknownColumns;
                },
            .seconds =
                [] {
                    return std::chrono::duration<double>(
                               std::chrono::steady_clock::now().time_since_epoch())
                        .count();
                }};
}

struct Progress::Impl {
    int64_t total_steps = 0;
    int64_t steps_done = 0;
    ProgressOutput output;
    double start_seconds = 0.0;
    std::optional<double> shown_seconds = std::nullopt;  ///< when a line was last shown
    std::optional<double> validation_loss = std::nullopt;
    std::optional<StepMetrics> last = std::nullopt;
    bool last_is_shown = true;
    bool line_is_open = false;

    std::string line(size_t columns) const {
        const double elapsed = output.seconds() - start_seconds;
        const double step_seconds = elapsed / static_cast<double>(last->step - steps_done);
        const auto left = static_cast<double>(total_steps - last->step);
        std::vector<Piece> pieces = {
            {0, fmt::format("step {}/{}", last->step, total_steps)},
            {0, fmt::format("loss {:.4f}", last->loss)},
            {4, rate_text(last->tokens_per_second)},
            {6, fmt::format("lr {:.2e}", last->learning_rate)},
            {7, fmt::format("norm {:.2f}", last->gradient_norm)},
            {2, left > 0 ? fmt::format("{} left", duration_text(step_seconds * left))
                         : fmt::format("{} in all", duration_text(elapsed))}};
        if (last->utilization > 0) {
            pieces.insert(pieces.begin() + 3,
                          {5, fmt::format("{:.0f}% of peak", 100 * last->utilization)});
        }
        if (validation_loss) {
            pieces.insert(pieces.begin() + 2,
                          {3, fmt::format("held-out {:.4f}", *validation_loss)});
        }
        if (last->skipped) {
            pieces.insert(pieces.begin() + 2, {1, "skipped"});
        }
        return fit(std::move(pieces), columns);
    }

    void show() {
        if (output.is_terminal) {
            // The last column stays free: writing there makes some terminals wrap.
            const int columns = std::max(1, output.columns() - 1);
            fmt::print(output.file, "\r{}\x1b[K", line(static_cast<size_t>(columns)));
            line_is_open = true;
        } else {
            fmt::print(output.file, "{}\n", line(std::string::npos));
        }
        std::fflush(output.file);
        shown_seconds = output.seconds();
        last_is_shown = true;
    }
};

Progress::Progress(int64_t total_steps, int64_t steps_done, ProgressOutput output)
    : impl_(std::make_unique<Impl>(Impl{
          .total_steps = total_steps, .steps_done = steps_done, .output = std::move(output)})) {
    impl_->start_seconds = impl_->output.seconds();
}

Progress::~Progress() {
    try {
        finish();
    } catch (const std::exception&) {
        // A destructor has nobody to tell that standard output is closed.
    }
}

void Progress::update(const StepMetrics& metrics) {
    Impl& impl = *impl_;
    impl.last = metrics;
    impl.last_is_shown = false;
    if (metrics.validation_loss) {
        impl.validation_loss = metrics.validation_loss;
    }
    const double interval = impl.output.is_terminal ? kRedrawSeconds : kPlainSeconds;
    if (!impl.shown_seconds || impl.output.seconds() - *impl.shown_seconds >= interval ||
        metrics.step == impl.total_steps || (metrics.validation_loss && !impl.output.is_terminal)) {
        impl.show();
    }
}

void Progress::finish() {
    if (!impl_->last_is_shown) {
        impl_->show();
    }
    if (impl_->line_is_open) {
        fmt::print(impl_->output.file, "\n");
        std::fflush(impl_->output.file);
        impl_->line_is_open = false;
    }
}

}  // namespace lathe
