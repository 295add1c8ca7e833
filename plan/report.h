// PlanReport: what a dry run says, against what the hardware has: fits or not, how fast, how long,
// how much.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/dry_run.h"

namespace lathe {

inline constexpr double kPetaflopsDay = 8.64e19;  ///< FLOPs

/// What a plan is asked for besides the step.
struct Budget {
    int64_t tokens = 0;           ///< to train on; 0: none given
    double price_per_hour = 0.0;  ///< of a device; 0: not known
    std::string currency = "USD";
};

/// A moment at which much memory is in use.
struct NamedMoment {
    std::string phase;  ///< "backward"
    std::string unit;   ///< "blocks.11"
    std::string after;  ///< the operation issued last
    MemoryMoment moment;
};

struct PlanReport {
    Plan plan;
    DryRunResult result;
    int64_t available_bytes = 0;  ///< of a rank's device
    bool fits = false;
    std::vector<NamedMoment> largest;  ///< at most one of each phase and unit

    double tokens_per_second = 0.0;  ///< of all ranks
    double utilization = 0.0;        ///< of the devices' peak in the compute type
    double waiting_s = 0.0;          ///< of a step: for the host

    int64_t budget_tokens = 0;  ///< the next five are of the whole budget
    int64_t budget_steps = 0;
    double budget_days = 0.0;
    double petaflops_days = 0.0;
    double kilowatt_hours = 0.0;
    double device_hours = 0.0;
    std::optional<double> cost;  ///< in `currency`
    std::string currency;
};

/// Runs the plan dry. Throws UsageError as Plan::validate does.
PlanReport make_report(const Plan& plan, const Budget& budget);

/// A table for a terminal.
std::string report_text(const PlanReport& report);
std::string report_json(const PlanReport& report);

/// "12.3 GiB", "456.7 MiB"
std::string bytes_text(double bytes);
/// "3.2 ms", "4.5 s", "6.1 h", "12.3 days"
std::string seconds_text(double seconds);
/// "124M", "8.0B"
std::string count_text(double count);
/// "stage 3, shard size 8, recompute full, micro-batch 4"
std::string layout_text(const Plan& plan);

}  // namespace lathe
