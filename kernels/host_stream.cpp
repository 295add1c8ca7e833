#include "kernels/host_stream.h"

#include <chrono>
#include <utility>

namespace lathe {

HostStream::HostStream() : thread_([this] { work(); }) {}

HostStream::~HostStream() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    issued_.notify_one();
    thread_.join();
}

void HostStream::run(std::function<void()> function) {
    {
        const std::lock_guard lock(mutex_);
        queue_.push_back(std::move(function));
    }
    ++num_issued_;
    issued_.notify_one();
}

int64_t HostStream::num_done() {
    const std::lock_guard lock(mutex_);
    return num_done_;
}

void HostStream::wait(int64_t ticket) {
    using Clock = std::chrono::steady_clock;
    std::unique_lock lock(mutex_);
    if (num_done_ < ticket) {
        const auto start = Clock::now();
        done_.wait(lock, [&] { return num_done_ >= ticket; });
        blocked_s_ += std::chrono::duration<double>(Clock::now() - start).count();
    }
    if (failure_) {
        std::rethrow_exception(failure_);
    }
}

void HostStream::work() {
    std::unique_lock lock(mutex_);
    while (true) {
        issued_.wait(lock, [&] { return ending_ || !queue_.empty(); });
        if (queue_.empty()) {
            return;
        }
        std::function<void()> function = std::move(queue_.front());
        queue_.pop_front();
        std::exception_ptr failure = failure_;
        lock.unlock();
        if (!failure) {
            try {
                function();
            } catch (...) {
                failure = std::current_exception();
            }
        }
        function = nullptr;  // what it holds is given up before its end is told
        lock.lock();
        failure_ = std::move(failure);
        ++num_done_;
        done_.notify_all();
    }
}

}  // namespace lathe
