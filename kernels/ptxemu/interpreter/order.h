// Which operations of the streams must have ended before which begin, whatever the order in which
// they happen to run: by the order of a stream, events, the rules of the default stream, and what
// the host has waited for.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "kernels/ptxemu/interpreter/types.h"

namespace ptxemu {

// By stream: how many of its operations come before.
using Knowledge = std::vector<u32>;

// An operation as issued: its number (from 1) and what comes before it.
struct OrderedOp {
    u32 id = 0;
    std::shared_ptr<const Knowledge> knows;
};

class Order {
  public:
    static constexpr u32 kLegacy = 0;

    Order() : streams_(1, Stream{true, {}}) {}
    u32 open_stream(bool blocking);
    void close_stream(u32 stream);
    // The next operation of these streams: it comes after all that was issued to any of them.
    OrderedOp begin(const std::vector<u32>& streams, const char* name);
    // What a wait for the end of everything issued to `stream` so far covers.
    Knowledge issued(u32 stream) const;
    void wait(u32 stream, const Knowledge& k) { join(streams_[stream].knows, k); }
    void host_waited(const Knowledge& k) { join(host_, k); }
    void host_waited_for_all();
    const Knowledge& host() const { return host_; }
    // Does operation `id` come before one that knows `k`?
    bool before(u32 id, const Knowledge& k) const {
        const Op& o = ops_[id];
        return o.stream < k.size() && k[o.stream] >= o.index;
    }
    bool same_stream(u32 a, u32 b) const { return ops_[a].stream == ops_[b].stream; }
    std::string name(u32 id) const;

  private:
    struct Stream {
        bool open_blocking;  // takes part in the default stream's rules
        Knowledge knows;     // of the last operation, itself included
        u32 count = 0;
    };
    struct Op {
        u32 stream, index;  // from 1
        const char* name;
    };
    static void join(Knowledge& a, const Knowledge& b);

    std::vector<Stream> streams_;
    std::vector<u32> unused_;
    Knowledge host_;
    std::vector<Op> ops_{{0, 0, ""}};  // by id
};

Order& order();

}  // namespace ptxemu
