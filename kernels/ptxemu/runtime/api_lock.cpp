#include "kernels/ptxemu/runtime/api_lock.h"

namespace ptxemu {

ApiLock& api_lock() {
    static ApiLock& lock = *new ApiLock;  // outlives every destructor
    return lock;
}

void ApiLock::take(std::unique_lock<std::mutex>& l, int depth) {
    free_.wait(l, [&] { return depth_ == 0; });
    owner_ = std::this_thread::get_id();
    depth_ = depth;
}

void ApiLock::lock() {
    std::unique_lock l(mutex_);
    if (depth_ && owner_ == std::this_thread::get_id()) {
        ++depth_;
        return;
    }
    take(l, 1);
    if (owner_ != background_) last_call_ = Clock::now();
}

void ApiLock::unlock() {
    std::unique_lock l(mutex_);
    if (--depth_) return;
    l.unlock();
    free_.notify_one();
}

void ApiLock::wait(std::chrono::microseconds limit) {
    std::unique_lock l(mutex_);
    int depth = depth_;
    depth_ = 0;
    free_.notify_one();
    progress_.wait_for(l, limit, [&] { return progressed_; });
    progressed_ = false;
    take(l, depth);
    if (owner_ != background_) last_call_ = Clock::now();
}

void ApiLock::progress() {
    std::lock_guard l(mutex_);
    progressed_ = true;
    progress_.notify_all();
}

// The lock is held by the caller.
ApiLock::Clock::duration ApiLock::idle() const { return Clock::now() - last_call_; }

}  // namespace ptxemu
