// What a profile's records add up to, and the table that says it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/work_recorder.h"

namespace lathe {

/// What a rank's device reaches at best; 0: unknown.
struct Ceilings {
    double flops_per_second = 0.0;
    double bytes_per_second = 0.0;

    /// The least seconds that this work can take.
    double least_seconds(double flops, double bytes) const;
    bool compute_bounds(double flops, double bytes) const;
};

/// Calls of equal name, detail and phase, of all steps.
struct ProfileRow {
    std::string name = {};
    std::string detail = {};
    std::string phase = {};
    Lane lane = Lane::host;
    int64_t calls = 0;
    double seconds = 0.0;
    double flops = 0.0;
    double bytes = 0.0;
    double thread_seconds = 0.0;  ///< that threads of the host worked on it, all together
};

struct ProfileSummary {
    int64_t steps = 0;
    double seconds = 0.0;          ///< of all steps
    double working_seconds = 0.0;  ///< of them, within something recorded in the main lane
    double flops = 0.0;
    int num_threads = 1;                ///< of the host, that work on operations
    Lane main = Lane::host;             ///< where computing is done
    std::vector<ProfileRow> rows = {};  ///< of steps only; longest first
    std::vector<WorkRecorder::Section> between =
        {};  ///< what was done between steps, added up by kind
};

/// `device` is the one that was recorded.
ProfileSummary summarize(const WorkRecorder& recorder, const DeviceInfo& device);

/// The summary for a terminal.
std::string table_text(const ProfileSummary& summary, const Ceilings& ceilings);

}  // namespace lathe
