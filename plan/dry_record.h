// DryRecord: what a dry backend wrote down of a run: memory over time and work over time.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/operation_cost.h"

namespace lathe {

/// What work was for (Backend::label).
struct WorkLabel {
    const char* phase = "setup";
    std::string unit;  ///< "blocks.3"; may be empty
};

/// One stretch of a stream's time.
struct WorkSpan {
    Stream stream = Stream::compute;
    double begin_s = 0.0;
    double end_s = 0.0;
    int32_t label = 0;      ///< index into DryRecord::labels
    std::string_view what;  ///< the operation or the collective; a literal
    double flops = 0.0;
    double bytes = 0.0;  ///< read and written, or sent
};

/// Bytes in use after an allocation or a release.
struct MemoryMoment {
    double time_s = 0.0;
    int32_t label = 0;
    std::string_view what;  ///< what was issued last
    std::array<int64_t, kNumMemoryCategories> bytes{};
    int64_t total_bytes = 0;  ///< of the device's own memory
};

/// One allocation's life; `end_s` is infinite while it lives.
struct AllocationSpan {
    MemoryCategory category = MemoryCategory::workspace;
    int64_t bytes = 0;
    double begin_s = 0.0;
    double end_s = 0.0;
};

/// Sums over all work so far.
struct WorkTotals {
    double flops = 0.0;
    double bytes = 0.0;
    double sent_bytes = 0.0;
    double compute_s = 0.0;    ///< the compute stream's work, without the next
    double optimizer_s = 0.0;  ///< its work on the gradient's norm and the update
    double exposed_s = 0.0;    ///< it stood still for communication
    std::array<double, kNumOperationClasses> class_seconds{};
    std::array<double, kNumOperationClasses> class_flops{};
    double num_operations = 0.0;

    WorkTotals operator-(const WorkTotals& other) const;
    WorkTotals operator+(const WorkTotals& other) const;
    WorkTotals operator*(double factor) const;
};

struct DryRecord {
    std::vector<WorkLabel> labels = {WorkLabel()};
    std::vector<WorkSpan> spans;              ///< kept only when asked for
    std::vector<MemoryMoment> moments;        ///< likewise
    std::vector<AllocationSpan> allocations;  ///< likewise
    MemoryMoment peak;                        ///< where the total was largest
    std::array<MemoryMoment, kNumMemoryCategories> category_peaks;
};

}  // namespace lathe
