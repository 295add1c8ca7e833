#include "kernels/work_recorder.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace lathe {

double WorkRecorder::now_s() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

void ThreadSpans::make_room(int num_threads) {
    threads_.resize(std::max(threads_.size(), static_cast<size_t>(num_threads)));
}

void ThreadSpans::belong_to(int64_t record) {
    for (Thread& thread : threads_) {
        for (; thread.num_claimed < thread.spans.size(); ++thread.num_claimed) {
            thread.spans[thread.num_claimed].record = record;
        }
    }
}

void WorkRecorder::begin_section(const char* kind, int64_t step) {
    end_section();
    sections_.push_back({.kind = kind, .step = step, .begin_s = now_s(), .end_s = 0.0});
    in_section_ = true;
}

void WorkRecorder::end_section() {
    if (in_section_) {
        sections_.back().end_s = now_s();
        in_section_ = false;
    }
}

WorkRecord& WorkRecorder::add(Work work, Lane lane) {
    return records_.emplace_back(
        WorkRecord{.work = std::move(work),
                   .lane = lane,
                   .label = static_cast<int32_t>(labels_.size()) - 1,
                   .section = in_section_ ? static_cast<int32_t>(sections_.size()) - 1 : -1});
}

WorkRecorder::Label& WorkRecorder::add_label(const char* phase, std::string_view unit) {
    return labels_.emplace_back(
        Label{.phase = phase, .unit = std::string(unit), .begin_s = now_s()});
}

void WorkRecorder::sample_memory(const std::array<int64_t, kNumMemoryCategories>& bytes) {
    memory_.push_back({.time_s = now_s(), .bytes = bytes});
}

}  // namespace lathe
