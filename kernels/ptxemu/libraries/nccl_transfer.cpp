// Moving the data. Every collective goes in pieces: each rank puts a piece into its slot, all meet,
// each rank reads the slots it needs (in rank order, so results are the same everywhere), all meet
// again. Sends and receives use one mailbox a pair.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "kernels/ptxemu/libraries/nccl_comm.h"
#include "kernels/ptxemu/libraries/nccl_reduce.h"

namespace ptxemu {

namespace {

const char* kind_name(int k) {
    static const char* names[] = {"?",      "AllReduce", "ReduceScatter", "AllGather", "Broadcast",
                                  "Reduce", "AlltoAll",  "Gather",        "Scatter"};
    return names[k];
}

std::string describe(int rank, const CollectiveCall& c) {
    char b[200];
    snprintf(b, sizeof b, "rank %d calls %s(count %llu type %d op %d root %d, number %llu)", rank,
             kind_name(c.kind), (unsigned long long)c.count, c.dtype, c.op, c.root,
             (unsigned long long)c.seq);
    return b;
}

void agree(Comm& c, const CollectiveCall& mine) {
    SegmentHead& head = c.segment.head();
    head.call[c.rank] = mine;
    c.segment.meet(head.device, c.aborted);
    for (int r = 0; r < c.ranks; ++r)
        if (memcmp(&head.call[r], &mine, sizeof mine))
            throw NcclFailure{
                ncclInvalidUsage,
                "collective mismatch: " + describe(c.rank, mine) + ", " + describe(r, head.call[r]),
                true};
}

class Collective {
  public:
    Collective(Comm& c, const NcclOp& op)
        : c_(c),
          op_(op),
          type_((ncclDataType_t)op.call.dtype),
          element_(element_size(type_)),
          n_((size_t)c.ranks),
          me_((size_t)c.rank) {}

    void run() {
        const size_t len = op_.call.count * element_;
        const size_t part = kSlotBytes / n_ / 16 * 16;  // one of n parts of a slot
        const bool root = c_.rank == op_.call.root;
        switch (op_.call.kind) {
            case kAllReduce:
                return pieces(
                    len, kSlotBytes, [&](size_t o, size_t k) { put(o, k); },
                    [&](size_t o, size_t k) { reduce(o, k, 0); });
            case kReduce:
                return pieces(
                    len, kSlotBytes, [&](size_t o, size_t k) { put(o, k); },
                    [&](size_t o, size_t k) {
                        if (root) reduce(o, k, 0);
                    });
            case kBroadcast:
                return pieces(
                    len, kSlotBytes,
                    [&](size_t o, size_t k) {
                        if (root) put(o, k);
                    },
                    [&](size_t o, size_t k) { memcpy(op_.out + o, slot(op_.call.root), k); });
            case kAllGather:
                return pieces(
                    len, kSlotBytes, [&](size_t o, size_t k) { put(o, k); },
                    [&](size_t o, size_t k) { gather(len, o, k); });
            case kGather:
                return pieces(
                    len, kSlotBytes, [&](size_t o, size_t k) { put(o, k); },
                    [&](size_t o, size_t k) {
                        if (root) gather(len, o, k);
                    });
            case kReduceScatter:
                return pieces(
                    len, part, [&](size_t o, size_t k) { put_parts(len, part, o, k); },
                    [&](size_t o, size_t k) { reduce(o, k, me_ * part); });
            case kAllToAll:
                return pieces(
                    len, part, [&](size_t o, size_t k) { put_parts(len, part, o, k); },
                    [&](size_t o, size_t k) {
                        for (size_t r = 0; r < n_; ++r)
                            memcpy(op_.out + r * len + o, slot(r) + me_ * part, k);
                    });
            default:  // scatter
                return pieces(
                    len, part,
                    [&](size_t o, size_t k) {
                        if (root) put_parts(len, part, o, k);
                    },
                    [&](size_t o, size_t k) {
                        memcpy(op_.out + o, slot(op_.call.root) + me_ * part, k);
                    });
        }
    }

  private:
    // Pieces of a rank's `len` bytes: all put, all get.
    template <class Put, class Get>
    void pieces(size_t len, size_t step, Put&& put_piece, Get&& get_piece) {
        for (size_t o = 0; o < len; o += step) {
            size_t k = std::min(step, len - o);
            put_piece(o, k);
            c_.segment.meet(c_.segment.head().device, c_.aborted);
            get_piece(o, k);
            c_.segment.meet(c_.segment.head().device, c_.aborted);
        }
    }
    u8* slot(size_t r) { return c_.segment.slot((int)r); }
    void put(size_t o, size_t k) { memcpy(slot(me_), op_.in + o, k); }
    void put_parts(size_t len, size_t part, size_t o, size_t k) {
        for (size_t r = 0; r < n_; ++r) memcpy(slot(me_) + r * part, op_.in + r * len + o, k);
    }
    void gather(size_t len, size_t o, size_t k) {
        for (size_t r = 0; r < n_; ++r) memcpy(op_.out + r * len + o, slot(r), k);
    }
    void reduce(size_t o, size_t k, size_t at) {
        std::vector<const u8*> in;
        for (size_t r = 0; r < n_; ++r) in.push_back(slot(r) + at);
        auto scaled = c_.scale.find(op_.call.op);
        if (scaled != c_.scale.end())
            reduce_elements(op_.out + o, in, k / element_, type_, ncclSum, scaled->second);
        else
            reduce_elements(op_.out + o, in, k / element_, type_, op_.call.op, 1);
    }

    Comm& c_;
    const NcclOp& op_;
    const ncclDataType_t type_;
    const size_t element_, n_, me_;
};

// One piece of a message, if the mailbox allows. A send is over when all of it has been taken.
bool move_piece(Comm& c, NcclOp& x) {
    Mailbox& b = x.send ? c.segment.box(c.rank, x.peer) : c.segment.box(x.peer, c.rank);
    bool full = b.full.load(std::memory_order_acquire);
    if (full == x.send) return false;
    if (x.send) {
        b.bytes = (u32)std::min(kBoxBytes, x.bytes - x.done);
        memcpy(b.data, x.in + x.done, b.bytes);
    } else {
        if (b.bytes > x.bytes - x.done)
            throw NcclFailure{
                ncclInvalidUsage,
                "rank " + std::to_string(x.peer) + " sends more bytes than are received", true};
        memcpy(x.out + x.done, b.data, b.bytes);
    }
    x.done += b.bytes;
    b.full.store(x.send, std::memory_order_release);
    return true;
}

bool taken(Comm& c, const NcclOp& x) {
    return !x.send || !c.segment.box(c.rank, x.peer).full.load(std::memory_order_acquire);
}

}  // namespace

size_t element_size(ncclDataType_t t) {
    switch (t) {
        case ncclInt8:
        case ncclUint8:
        case ncclFloat8e4m3:
        case ncclFloat8e5m2:
            return 1;
        case ncclFloat16:
        case ncclBfloat16:
            return 2;
        case ncclInt64:
        case ncclUint64:
        case ncclFloat64:
            return 8;
        default:
            return 4;
    }
}

void run_collective(Comm& c, const NcclOp& op) {
    CollectiveCall mine = op.call;
    mine.seq = c.calls++;
    agree(c, mine);
    Collective(c, op).run();
}

// All sends and receives of a group move on together; the messages of a pair stay in order.
void run_messages(Comm& c, std::vector<NcclOp*>& ops) {
    auto over = [&](NcclOp* x) { return x->done == x->bytes && taken(c, *x); };
    for (;;) {
        ops.erase(std::remove_if(ops.begin(), ops.end(), over), ops.end());
        if (ops.empty()) return;
        bool moved = false;
        u64 needed = 0;
        bool busy[2][kMaxRanks] = {};
        for (NcclOp* x : ops) {
            bool& b = busy[x->send][x->peer];
            if (!b && x->done < x->bytes) moved |= move_piece(c, *x);
            b = true;
            needed |= 1ull << x->peer;
        }
        if (moved) continue;
        c.segment.check_peers(c.aborted, needed);
        c.segment.nap();
    }
}

}  // namespace ptxemu
