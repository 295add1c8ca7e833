// What the ranks of a communicator share: processes (or threads) of one host that meet in POSIX
// shared memory.
#pragma once
#include <nccl.h>

#include <atomic>
#include <string>
#include <vector>

#include "kernels/ptxemu/interpreter/types.h"

namespace ptxemu {

constexpr int kMaxRanks = 64;
constexpr size_t kSlotBytes = 1 << 20, kBoxBytes = 64 << 10;

// A call that cannot go on: for another rank's sake (died, left, aborted) or because ranks
// disagree.
struct NcclFailure {
    ncclResult_t result;
    std::string why;
    bool program_error = false;  // the program is wrong: it gets a report, and the call ends
};
struct NcclAborted {};  // by this rank

// What a rank is about to do; all must say the same.
struct CollectiveCall {
    i32 kind, dtype, op, root;
    u64 count, seq;
};

// One piece of a message from a rank to another.
struct Mailbox {
    std::atomic<u32> full;
    u32 bytes;
    alignas(16) u8 data[kBoxBytes];
};

// A place where all ranks meet again and again.
struct Meeting {
    std::atomic<u32> arrived, generation;
};

struct SegmentHead {
    std::atomic<u32> attached, aborted;
    std::atomic<i32> pid[kMaxRanks];  // kLeft: destroyed its communicator
    Meeting device, host;             // of the work on streams; of calls that the host waits for
    CollectiveCall call[kMaxRanks];
    i32 split[kMaxRanks][2];  // color, key
};

class Segment {
  public:
    Segment(const std::string& name, int ranks, int rank);
    ~Segment();
    Segment(const Segment&) = delete;
    Segment& operator=(const Segment&) = delete;

    SegmentHead& head() { return *head_; }
    u8* slot(int rank) { return slots_ + (size_t)rank * kSlotBytes; }
    Mailbox& box(int from, int to) { return boxes_[from * ranks_ + to]; }

    // These throw when another rank cannot come, or when `aborted` turns true.
    void meet(Meeting& m, const std::atomic<bool>& aborted);
    void wait_for_all(const std::atomic<bool>& aborted);  // attached
    // `needed`: a bit for each rank whose part is still to come.
    void check_peers(const std::atomic<bool>& aborted, u64 needed = ~0ull);
    void nap();  // a short sleep between two looks at a mailbox
    void abort();
    void leave() { head_->pid[rank_] = kLeft; }

  private:
    static constexpr i32 kLeft = -1;
    bool dead(int rank);

    int ranks_, rank_;
    size_t bytes_ = 0;
    SegmentHead* head_ = nullptr;
    u8* slots_ = nullptr;
    Mailbox* boxes_ = nullptr;
    std::vector<int> pidfd_;
};

std::string new_segment_name();  // also removes what dead processes have left behind

}  // namespace ptxemu
