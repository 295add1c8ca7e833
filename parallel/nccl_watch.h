// NcclWatch: a thread that watches what NCCL was given to do, and ends it where a rank has died or
// stays away, a device hangs, or NCCL meets an error: a collective on a GPU waits for ever of
// itself.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/handles.h"
#include "parallel/exchange.h"
#include "parallel/host_queue.h"
#include "parallel/nccl_group.h"

namespace lathe {

/// What the watch asks about the ranks of a group.
struct NcclMembers {
    std::shared_ptr<Exchange> exchange;
    std::shared_ptr<NcclGroup> group;
};

/// One for each rank. The rank's own thread issues; a failure is told to it by check(), or, where
/// it does not come there in time, ends the job.
class NcclWatch {
  public:
    /// `end_job` is Communicator::abort of this rank.
    NcclWatch(int device, double timeout_s, std::function<void(const std::string&)> end_job);
    NcclWatch(const NcclWatch&) = delete;
    NcclWatch& operator=(const NcclWatch&) = delete;
    ~NcclWatch();

    /// Groups that a failure aborts.
    void add(const std::shared_ptr<NcclGroup>& group);
    void remove(const std::shared_ptr<NcclGroup>& group);

    /// Has `issue` give NCCL a call's work on `stream`, and watches it until that is done.
    void run(const CollectiveCall& call, const NcclMembers& members, cudaStream_t stream,
             const std::function<void()>& issue);

    /// Throws the first failure, if there is one.
    void check();
    bool failed();
    /// The first failure is kept, and all groups are aborted. From any thread.
    void fail(const std::string& text);

  private:
    using Clock = std::chrono::steady_clock;

    struct Events {
        cuda::OwnedEvent start = cuda::make_event();
        cuda::OwnedEvent end = cuda::make_event();
    };
    /// A call that is being issued or under way.
    struct Work {
        CollectiveCall call;
        NcclMembers members;
        Events events;
        bool issued = false;
        bool started = false;  ///< the stream has come to it
    };

    void watch();
    /// Takes away what is done; true where something has moved.
    bool harvest();
    /// What is wrong with the oldest work, which has stood still for so long; "" where nothing is.
    std::string complaint(double stood_s);
    void wait_a_little(std::unique_lock<std::mutex>& lock);
    void end_job_unless_noticed(std::unique_lock<std::mutex>& lock);
    [[noreturn]] void throw_failure();

    int device_;
    double timeout_s_;
    std::function<void(const std::string&)> end_job_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Work> work_;  ///< oldest first
    std::vector<Events> free_events_;
    std::vector<std::shared_ptr<NcclGroup>> groups_;
    std::string failure_;
    bool noticed_ = false;  ///< by the rank's own thread
    bool ending_ = false;
    std::thread aborting_;
    std::thread thread_;  ///< last: it uses all of the above
};

/// A queue beside the device, whose failures end what NCCL does.
class WatchedQueue final : public HostQueue {
  public:
    explicit WatchedQueue(std::shared_ptr<NcclWatch> watch) : watch_(std::move(watch)) {}
    void run(std::function<void()> function) override;
    void wait() override;

  private:
    std::shared_ptr<NcclWatch> watch_;
    ThreadQueue thread_;  ///< last: it ends first
};

}  // namespace lathe
