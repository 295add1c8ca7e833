// A profile as a Chrome trace ("Trace Event Format"), which Perfetto and chrome://tracing show.
#pragma once

#include <string>

#include "kernels/backend.h"
#include "kernels/work_recorder.h"

namespace lathe {

struct TraceProcess {
    int rank = 0;
    std::string name;
    double zero_s = 0.0;  ///< the trace's beginning, by the host's steady clock
};

/// One complete event ("X", microseconds) for each record, in its lane, with its FLOPs, bytes,
/// shape, phase, unit and step; lanes for steps and phases; memory in use as counters.
std::string trace_json(const WorkRecorder& recorder, const DeviceInfo& device,
                       const TraceProcess& process);

}  // namespace lathe
