#include "train/profile.h"

#include <fmt/format.h>

#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include "kernels/error.h"
#include "kernels/files.h"
#include "train/profile_trace.h"

namespace lathe {
namespace fs = std::filesystem;
namespace {

/// Memory may be too short for measuring its rate beside a run, which then stays unknown.
Ceilings measure(const ProfilePlan& plan) {
    Ceilings ceilings = {.flops_per_second = plan.flops_per_second()};
    try {
        ceilings.bytes_per_second = plan.bytes_per_second();
    } catch (const std::bad_alloc&) {
        return ceilings;
    } catch (const Error&) {
        return ceilings;
    }
    return ceilings;
}

fs::path trace_path(const fs::path& folder, int rank) {
    return folder / fmt::format("profile.rank{}.json", rank);
}

}  // namespace

Profile::Profile(Backend& backend, ProfilePlan plan)
    : backend_(backend), plan_(std::move(plan)), done_(plan_.steps == 0) {}

Profile::~Profile() { backend_.set_recorder(nullptr); }

void Profile::start() {
    backend_.synchronize(Stream::compute);
    recorder_ = std::make_shared<WorkRecorder>();
    backend_.set_recorder(recorder_);
    zero_s_ = WorkRecorder::now_s();
}

void Profile::begin(const char* kind, int64_t step) {
    if (done_) {
        return;
    }
    const int64_t last = kStepsBefore + plan_.steps;
    if (std::strcmp(kind, "step") == 0) {
        ++steps_begun_;
        if (steps_begun_ == kStepsBefore + 1) {
            start();
        } else if (steps_begun_ > last) {
            finish();
            return;
        }
    } else if (steps_begun_ == last) {
        backend_.synchronize(Stream::compute);  // the last step's work is all in its time
    }
    if (recorder_ != nullptr) {
        recorder_->begin_section(kind, step);
        backend_.label(kind, "");
    }
}

void Profile::finish() {
    if (done_) {
        return;
    }
    done_ = true;
    if (recorder_ == nullptr) {
        plan_.tell(
            fmt::format("nothing was profiled: that begins with a process's step {}, and "
                        "this one took {}",
                        kStepsBefore + 1, steps_begun_));
        return;
    }
    backend_.label("end", "");
    recorder_->end_section();
    backend_.read_stamps();
    backend_.set_recorder(nullptr);
    const fs::path path = trace_path(plan_.folder, plan_.rank);
    write_file(
        path,
        trace_json(*recorder_, backend_.device(),
                   {.rank = plan_.rank,
                    .name = fmt::format("rank {} of {}, {}", plan_.rank, plan_.size, plan_.place),
                    .zero_s = zero_s_}));
    if (plan_.rank == 0) {
        // Of an earlier process with more ranks.
        std::error_code error;
        for (int rank = plan_.size; fs::remove(trace_path(plan_.folder, rank), error); ++rank) {
        }
    }
    plan_.tell(fmt::format("profile of rank {}: {}\n{}", plan_.rank, path.string(),
                           table_text(summarize(*recorder_, backend_.device()), measure(plan_))));
    recorder_.reset();
}

}  // namespace lathe
