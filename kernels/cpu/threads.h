// Teams of OpenMP threads. Work is always cut by shapes; which thread takes a piece never changes
// a result.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

#include "kernels/work_recorder.h"

namespace lathe::cpu {

/// The threads that an operation may use, and where they say when they worked (null: nowhere).
struct Team {
    int num_threads = 1;
    ThreadSpans* spans = nullptr;
};

/// One thread of a team at work.
class TeamThread {
  public:
    TeamThread(const Team& team, int number) : spans_(team.spans), number_(number) { resume(); }
    operator int() const { return number_; }

    /// Its work begins, or goes on.
    void resume() {
        if (spans_ != nullptr) {
            since_s_ = WorkRecorder::now_s();
        }
    }
    /// It has ended, or waits for the others.
    void pause() const {
        if (spans_ != nullptr) {
            spans_->add(number_, since_s_, WorkRecorder::now_s());
        }
    }

  private:
    ThreadSpans* spans_;
    int number_;
    double since_s_ = 0.0;
};

/// Calls body(thread) on all threads of a team at once (fewer where OpenMP's limits forbid them);
/// `thread` is a TeamThread, or its number. Within it OpenMP's default team size is 1, so that
/// libraries called there stay on their thread. `body` must not throw.
template <typename Body>
void run_team(const Team& team, const Body& body) {
#pragma omp parallel num_threads(team.num_threads) if (team.num_threads > 1)
    {
        omp_set_num_threads(1);
        TeamThread thread(team, omp_get_thread_num());
        body(thread);
        thread.pause();
    }
}

/// To be called by every thread of a team: calls body(i) for each i < count, on whichever thread is
/// free, and waits for all of them.
template <typename Body>
void team_for(TeamThread& thread, int64_t count, const Body& body) {
#pragma omp for schedule(dynamic, 1) nowait
    for (int64_t i = 0; i < count; ++i) {
        body(i);
    }
    thread.pause();
#pragma omp barrier
    thread.resume();
}

/// Calls body(begin, end) for one contiguous range of [0, count) a thread; ranges start at
/// multiples of `grain`. Only for work whose pieces are independent of each other, since the cut
/// depends on the number of threads.
template <typename Body>
void parallel_ranges(const Team& team, int64_t count, int64_t grain, const Body& body) {
    if (count <= 0) {
        return;
    }
    const int64_t num_grains = (count + grain - 1) / grain;
    const int used_threads = static_cast<int>(std::min<int64_t>(team.num_threads, num_grains));
    if (used_threads == 1) {
        const TeamThread thread(team, 0);
        body(int64_t{0}, count);
        thread.pause();
        return;
    }
#pragma omp parallel num_threads(used_threads)
    {
        // The team may be smaller than asked for.
        const TeamThread member(team, omp_get_thread_num());
        const int64_t threads = omp_get_num_threads();
        const int64_t thread = omp_get_thread_num();
        const int64_t begin = num_grains * thread / threads * grain;
        const int64_t end = std::min(count, num_grains * (thread + 1) / threads * grain);
        if (begin < end) {
            body(begin, end);
        }
        member.pause();
    }
}

/// While it lives, OpenMP regions opened by this host thread (oneDNN's) have one thread.
class SingleThreadScope {
  public:
    SingleThreadScope() : saved_(omp_get_max_threads()) { omp_set_num_threads(1); }
    ~SingleThreadScope() { omp_set_num_threads(saved_); }
    SingleThreadScope(const SingleThreadScope&) = delete;
    SingleThreadScope& operator=(const SingleThreadScope&) = delete;

  private:
    int saved_;
};

}  // namespace lathe::cpu
