// WorkRecorder: what a backend was given to do and when it was done, for profiles
// (Backend::set_recorder).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/buffer.h"

namespace lathe {

/// Who did it. What is issued to a stream that runs at once is done by the host.
enum class Lane { host, compute, communication };

struct Work {
    const char* name = "";     ///< a literal: "Matmul", "copy", "all_to_all"
    std::string detail = {};   ///< shapes and types: calls of equal name and detail cost the same
    std::string subject = {};  ///< what it is for, where its label does not say it
    double flops = 0.0;
    double bytes = 0.0;  ///< read and written, or sent
};

/// Times are seconds of the host's steady clock.
struct WorkRecord {
    Work work;
    Lane lane = Lane::host;
    int32_t label = 0;
    int32_t section = -1;  ///< none
    double issue_begin_s = 0.0;
    double issue_end_s = 0.0;
    double begin_s = 0.0;  ///< known once the streams were waited for (Backend::read_stamps)
    double end_s = 0.0;

    double seconds() const { return end_s - begin_s; }
};

/// When each thread of a team worked, rather than waited for the others: threads add to it at once,
/// each under its own number.
class ThreadSpans {
  public:
    struct Span {
        double begin_s = 0.0;
        double end_s = 0.0;
        int64_t record = -1;  ///< of WorkRecorder::records

        double seconds() const { return end_s - begin_s; }
    };

    /// At least so many threads, before they work.
    void make_room(int num_threads);
    void add(int thread, double begin_s, double end_s) {
        threads_[static_cast<size_t>(thread)].spans.push_back(
            {.begin_s = begin_s, .end_s = end_s, .record = -1});
    }
    /// What was added since the last call was done for this record.
    void belong_to(int64_t record);

    int num_threads() const { return static_cast<int>(threads_.size()); }
    const std::vector<Span>& of(int thread) const {
        return threads_[static_cast<size_t>(thread)].spans;
    }

  private:
    struct alignas(64) Thread {
        std::vector<Span> spans;
        size_t num_claimed = 0;
    };
    std::vector<Thread> threads_;
};

/// Memory in use from a moment on.
struct MemorySample {
    double time_s = 0.0;
    std::array<int64_t, kNumMemoryCategories> bytes{};
};

/// Filled by one backend and its host thread; read when the backend's stamps were read.
class WorkRecorder {
  public:
    struct Label {
        const char* phase = "";
        std::string unit;
        double begin_s = 0.0;  ///< in the compute stream
    };
    /// A part of the run, told by whoever drives it: a step, a validation. Sections follow each
    /// other.
    struct Section {
        const char* kind = "";  ///< a literal
        int64_t step = 0;
        double begin_s = 0.0;
        double end_s = 0.0;

        double seconds() const { return end_s - begin_s; }
    };

    void begin_section(const char* kind, int64_t step);
    void end_section();

    /// Records live as long as this object, where they are.
    WorkRecord& add(Work work, Lane lane);
    Label& add_label(const char* phase, std::string_view unit);
    void sample_memory(const std::array<int64_t, kNumMemoryCategories>& bytes);

    const std::deque<WorkRecord>& records() const { return records_; }
    const std::deque<Label>& labels() const { return labels_; }
    const std::vector<Section>& sections() const { return sections_; }
    const std::vector<MemorySample>& memory() const { return memory_; }

    /// The threads of the host that work on what the compute stream is given.
    ThreadSpans& threads() { return threads_; }
    const ThreadSpans& threads() const { return threads_; }

    /// The host's steady clock.
    static double now_s();

  private:
    std::deque<WorkRecord> records_;
    std::deque<Label> labels_ = {Label()};
    std::vector<Section> sections_;
    std::vector<MemorySample> memory_;
    ThreadSpans threads_;
    bool in_section_ = false;
};

}  // namespace lathe
