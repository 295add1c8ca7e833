// A communicator: its shared segment and the thread in which its calls run, in the order in which
// they were issued.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "kernels/ptxemu/libraries/nccl_segment.h"
#include "kernels/ptxemu/runtime/work.h"

namespace ptxemu {

enum CollectiveKind {
    kAllReduce = 1,
    kReduceScatter,
    kAllGather,
    kBroadcast,
    kReduce,
    kAllToAll,
    kGather,
    kScatter
};

// One call of a group.
struct NcclOp {
    bool point_to_point = false, send = false;
    CollectiveCall call{};
    const u8* in = nullptr;
    u8* out = nullptr;
    int peer = 0;
    size_t bytes = 0, done = 0;  // of a message
};

class Comm : public std::enable_shared_from_this<Comm> {
  public:
    Comm(const std::string& segment_name, int n, int r, bool blocks)
        : segment(segment_name, n, r), name(segment_name), ranks(n), rank(r), blocking(blocks) {}

    // In the communicator's thread, one after the other.
    void run(std::function<void()> task);
    void run_and_wait(std::function<void()> task);
    void stop();  // the thread ends when it has run what it was given
    void abort();
    void fail(const NcclFailure& f);  // becomes the asynchronous error

    Segment segment;
    const std::string name;
    const int ranks, rank;
    const bool blocking;
    std::atomic<bool> aborted{false};
    std::atomic<int> state{ncclSuccess};  // ncclInProgress, or the asynchronous error
    u64 calls = 0, splits = 0;
    std::map<int, double> scale;  // of premultiplying operators

    std::shared_ptr<struct GroupWork> last;  // issued
    std::deque<std::pair<std::shared_ptr<struct GroupWork>, std::vector<cudaStream_t>>>
        deferred;  // by a call that did not block
    bool finalizing = false, polled = false;

  private:
    void loop();
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> tasks_;
    bool started_ = false, stopped_ = false, busy_ = false;
};

// The calls of a group that belong to one communicator.
struct GroupWork : Work, std::enable_shared_from_this<GroupWork> {
    std::shared_ptr<Comm> comm;
    std::vector<NcclOp> ops;
    std::atomic<bool> ended{false};

    GroupWork() { label = "NCCL call"; }
    bool remote() const override { return true; }
    void start() override;
    void abandon() override { ended = true; }
    bool done() override { return ended; }
};

// nccl_transfer.cpp
void run_collective(Comm& c, const NcclOp& op);
void run_messages(Comm& c, std::vector<NcclOp*>& ops);
size_t element_size(ncclDataType_t t);

}  // namespace ptxemu
