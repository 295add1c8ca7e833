// HostStream: a stream of host memory: a thread that runs functions one after another, in order of
// issue.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace lathe {

/// One thread issues and waits. Idle, it uses no processor time. Once a function has thrown, later
/// ones are dropped, and every wait throws what it threw.
class HostStream {
  public:
    HostStream();
    HostStream(const HostStream&) = delete;
    HostStream& operator=(const HostStream&) = delete;
    /// Runs what was issued to its end first.
    ~HostStream();

    void run(std::function<void()> function);
    /// Functions issued so far.
    int64_t ticket() const { return num_issued_; }
    /// Functions done so far, or dropped; from any thread.
    int64_t num_done();
    /// Blocks until the first `ticket` functions are done.
    void wait(int64_t ticket);
    void synchronize() { wait(num_issued_); }
    /// Seconds that waits have blocked so far.
    double blocked_s() const { return blocked_s_; }

  private:
    void work();

    std::mutex mutex_;
    std::condition_variable issued_;
    std::condition_variable done_;
    std::deque<std::function<void()>> queue_;
    int64_t num_done_ = 0;
    std::exception_ptr failure_;
    bool ending_ = false;
    int64_t num_issued_ = 0;  ///< the issuing thread's
    double blocked_s_ = 0;    ///< the issuing thread's
    std::thread thread_;      ///< last: it uses all of the above
};

}  // namespace lathe
