// What a run records: metrics.jsonl and TensorBoard events, both fed with one record a step.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "train/memory_report.h"

namespace lathe {

/// One optimizer step's numbers.
struct StepMetrics {
    int64_t step = 0;   ///< counted from 1
    double loss = 0.0;  ///< mean nats a token, before this step's update
    double learning_rate = 0.0;
    double gradient_norm = 0.0;  ///< before clipping
    int64_t tokens = 0;          ///< trained on so far, this step included
    double tokens_per_second = 0.0;
    double utilization =
        0.0;  ///< of the matrix products' ceiling (train/utilization.h); 0: unknown
    double exposed_communication_s =
        0.0;  ///< of communication not hidden behind computing; the largest of the ranks
    int64_t sent_bytes = 0;                 ///< by the rank that sent the most
    bool skipped = false;                   ///< a NaN or infinity kept this step from the weights
    std::optional<double> validation_loss;  ///< nats a token
    std::optional<double> bits_per_byte;
};

/// The step as a line of metrics.jsonl, with its newline: a JSON object with the members' names as
/// keys. Numbers read back to the same bits; as JSON has no NaN and infinities, they are the
/// strings "NaN", "Infinity" and "-Infinity" (Python's float() reads them). "skipped" stands only
/// in skipped steps, validation_loss and bits_per_byte only where they were measured.
std::string metrics_line(const StepMetrics& metrics);

/// Metrics of one run folder, in metrics.jsonl and kEventFileName. Opening cuts both back to
/// `resume_step` (0: a new run), so that a resumed run has each step once, and drops what a killed
/// process left half-written. Write errors (a full disk) throw Error naming the file.
class MetricsLog {
  public:
    /// TensorBoard finds files by "tfevents"; one name is enough, as a resumed run goes on in it.
    static constexpr const char* kEventFileName = "events.out.tfevents.lathe";

    MetricsLog(const std::string& run_folder, int64_t resume_step);
    ~MetricsLog();
    /// Appends the step to metrics.jsonl and to the TensorBoard events; both are in the kernel on
    /// return.
    void write(const StepMetrics& metrics);
    /// Writes peak bytes by category as TensorBoard scalars `memory/<category>/min` and `/max`
    /// (over ranks) at `step`.
    void write_memory(int64_t step, const MemorySpread& spread);
    /// Forces everything to the disk: called before a checkpoint is completed.
    void sync();
    /// What to warn of: empty, or that metrics.jsonl ends before `resume_step`. As sync() comes
    /// before each checkpoint, somebody changed it; the run goes on and the gap stays.
    const std::string& resume_warning() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace lathe
