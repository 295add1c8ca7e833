// Teams of OpenMP threads. Work is always cut by shapes; which thread takes a piece never changes
// a result.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace lathe::cpu {

/// Calls body(thread) on `num_threads` threads at once (fewer where OpenMP's limits forbid them).
/// Within it OpenMP's default team size is 1, so that libraries called there stay on their thread.
/// `body` must not throw.
template <typename Body>
void run_team(int num_threads, const Body& body) {
#pragma omp parallel num_threads(num_threads) if (num_threads > 1)
    {
        omp_set_num_threads(1);
        body(omp_get_thread_num());
    }
}

/// To be called by every thread of a team: calls body(i) for each i < count, on whichever thread is
/// free, and waits for all of them.
template <typename Body>
void team_for(int64_t count, const Body& body) {
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < count; ++i) {
        body(i);
    }
}

/// Calls body(begin, end) for one contiguous range of [0, count) a thread; ranges start at
/// multiples of `grain`. Only for work whose pieces are independent of each other, since the cut
/// depends on the number of threads.
template <typename Body>
void parallel_ranges(int num_threads, int64_t count, int64_t grain, const Body& body) {
    if (count <= 0) {
        return;
    }
    const int64_t num_grains = (count + grain - 1) / grain;
    const int used_threads = static_cast<int>(std::min<int64_t>(num_threads, num_grains));
    if (used_threads == 1) {
        body(int64_t{0}, count);
        return;
    }
#pragma omp parallel num_threads(used_threads)
    {
        // The team may be smaller than asked for.
        const int64_t threads = omp_get_num_threads();
        const int64_t thread = omp_get_thread_num();
        const int64_t begin = num_grains * thread / threads * grain;
        const int64_t end = std::min(count, num_grains * (thread + 1) / threads * grain);
        if (begin < end) {
            body(begin, end);
        }
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
