// Independent pieces of work over threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace lathe {

/// `requested` threads, or one for each core where it is 0; never more than there are items.
inline int64_t resolve_threads(int requested, int64_t num_items) {
    const int64_t wanted =
        requested > 0 ? requested : std::max<int64_t>(1, std::thread::hardware_concurrency());
    return std::max<int64_t>(1, std::min(wanted, num_items));
}

/// Calls work(thread, item) for each item in 0..num_items-1, each thread taking the next free one.
/// The first exception that a call throws is thrown here after all threads have stopped.
template <typename Work>
void parallel_for(int64_t num_threads, int64_t num_items, Work&& work) {
    std::atomic<int64_t> next{0};
    std::exception_ptr failure;
    std::mutex mutex;
    const auto run = [&](int64_t thread) {
        try {
            for (int64_t item = next++; item < num_items; item = next++) work(thread, item);
        } catch (...) {
            next = num_items;
            const std::lock_guard lock(mutex);
            if (!failure) failure = std::current_exception();
        }
    };
    std::vector<std::jthread> threads;
    for (int64_t thread = 1; thread < num_threads; ++thread) threads.emplace_back(run, thread);
    run(0);
    threads.clear();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace lathe
