#include "kernels/ptxemu/interpreter/order.h"

#include <algorithm>

namespace ptxemu {

Order& order() {
    static Order& o = *new Order;
    return o;
}

void Order::join(Knowledge& a, const Knowledge& b) {
    if (a.size() < b.size()) a.resize(b.size());
    for (size_t k = 0; k < b.size(); ++k) a[k] = std::max(a[k], b[k]);
}

u32 Order::open_stream(bool blocking) {
    if (unused_.empty()) {
        streams_.push_back({blocking, {}});
        return (u32)streams_.size() - 1;
    }
    // The number of a closed stream goes on counting where that stream ended.
    u32 s = unused_.back();
    unused_.pop_back();
    streams_[s].open_blocking = blocking;
    streams_[s].knows.clear();
    return s;
}

void Order::close_stream(u32 s) {
    // The default stream would have waited for it.
    if (streams_[s].open_blocking) join(streams_[kLegacy].knows, streams_[s].knows);
    streams_[s].open_blocking = false;
    unused_.push_back(s);
}

Knowledge Order::issued(u32 stream) const {
    Knowledge k = streams_[stream].knows;
    if (stream == kLegacy) {
        for (auto& s : streams_)
            if (s.open_blocking) join(k, s.knows);
    } else if (streams_[stream].open_blocking) {
        join(k, streams_[kLegacy].knows);
    }
    return k;
}

OrderedOp Order::begin(const std::vector<u32>& streams, const char* name) {
    Knowledge k = host_;
    for (u32 s : streams) join(k, issued(s));
    u32 first = streams[0], index = ++streams_[first].count;
    ops_.push_back({first, index, name});
    OrderedOp op{(u32)ops_.size() - 1, std::make_shared<const Knowledge>(k)};
    if (k.size() <= first) k.resize(first + 1);
    k[first] = index;
    for (u32 s : streams) streams_[s].knows = k;
    return op;
}

std::string Order::name(u32 id) const {
    const Op& o = ops_[id];
    return std::string(o.name) + " (" +
           (o.stream == kLegacy ? "default stream" : "stream " + std::to_string(o.stream)) + ")";
}

void Order::host_waited_for_all() {
    for (u32 s = 0; s < streams_.size(); ++s) join(host_, streams_[s].knows);
}

}  // namespace ptxemu
