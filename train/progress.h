// The line a person watches while a run trains.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>

#include "train/metrics.h"

namespace lathe {

/// Where progress is shown.
struct ProgressOutput {
    std::FILE* file = stdout;
    bool is_terminal = false;
    std::function<int()> columns;     ///< the terminal's width now
    std::function<double()> seconds;  ///< a steady clock

    /// Standard output, as it is.
    static ProgressOutput standard();
};

/// On a terminal one line redrawn in place, at most 10 times a second, cut to the width by leaving
/// out the least important numbers. Elsewhere plain lines: the first and the last step, steps with
/// a validation loss, and one every 10 seconds.
class Progress {
  public:
    /// `steps_done`: by earlier processes, when a run was resumed.
    Progress(int64_t total_steps, int64_t steps_done,
             ProgressOutput output = ProgressOutput::standard());
    ~Progress();
    void update(const StepMetrics& metrics);
    /// Shows the last step if it is not shown, and ends the live line so that other text can
    /// follow.
    void finish();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// "0:07", "12:34", "1:02:03", "3d 04:05".
std::string duration_text(double seconds);

}  // namespace lathe
