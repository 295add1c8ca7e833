// The lock of the whole API: recursive, and given up entirely by a thread that waits for work to
// end.
#pragma once
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace ptxemu {

class ApiLock {
  public:
    using Clock = std::chrono::steady_clock;

    void lock();
    void unlock();
    // Lets other threads in until progress() is called or the time is over.
    void wait(std::chrono::microseconds limit);
    void progress();
    // How long no thread has called the API; the thread that runs queued work in the background
    // does not count.
    Clock::duration idle() const;
    void this_thread_is_background() { background_ = std::this_thread::get_id(); }

  private:
    void take(std::unique_lock<std::mutex>& l, int depth);

    std::mutex mutex_;
    std::condition_variable free_, progress_;
    std::thread::id owner_, background_;
    int depth_ = 0;
    bool progressed_ = false;  // since the last wait
    Clock::time_point last_call_ = Clock::now();
};

ApiLock& api_lock();

}  // namespace ptxemu
