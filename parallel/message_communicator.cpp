#include "parallel/message_communicator.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "parallel/ordered_sum.h"
#include "parallel/traffic.h"

namespace lathe {
namespace {

/// Elements [begin, end) of a tensor, as far as it has them.
Tensor cut(const Tensor& tensor, int64_t begin, int64_t end) {
    return tensor.flat().slice(std::min(begin, tensor.size()), std::min(end, tensor.size()));
}

/// One's own part becomes the sum over ranks, in rank order; by slices, so that what has arrived
/// and is not summed yet takes little room.
void scatter_and_sum(Exchange& exchange, const CollectiveCall& call,
                     std::span<const Tensor> parts) {
    constexpr int64_t kSliceElements = int64_t{1} << 20;
    int64_t longest = 0;
    for (const Tensor& part : parts) {
        longest = std::max(longest, part.size());
    }
    const auto me = static_cast<size_t>(exchange.rank());
    const int64_t room = std::min(kSliceElements, parts[me].size()) * size_of(call.dtype);
    std::byte* const received = exchange.staging(room * exchange.size());
    std::vector<Traffic> traffic(parts.size());
    std::vector<const void*> terms(parts.size());
    int64_t begin = 0;
    do {  // also where there is nothing to sum: the ranks compare their calls
        const int64_t end = begin + kSliceElements;
        const Tensor sum = cut(parts[me], begin, end);
        for (size_t peer = 0; peer < parts.size(); ++peer) {
            const Tensor theirs = cut(parts[peer], begin, end);
            traffic[peer] = {.send = theirs.data(),
                             .send_bytes = theirs.bytes(),
                             .receive = received + static_cast<int64_t>(peer) * room,
                             .receive_bytes = sum.bytes()};
            terms[peer] = peer == me ? sum.data() : traffic[peer].receive;
        }
        exchange.run(call, traffic);
        ordered_sum(sum, terms);
        begin = end;
    } while (begin < longest);
}

}  // namespace

MessageCommunicator::MessageCommunicator(std::shared_ptr<HostQueue> queue,
                                         std::unique_ptr<Transport> transport,
                                         std::vector<int> world_ranks, double timeout_s)
    : MessageCommunicator(
          std::move(queue),
          std::make_shared<Exchange>(std::move(transport), std::move(world_ranks), timeout_s)) {}

MessageCommunicator::MessageCommunicator(std::shared_ptr<HostQueue> queue,
                                         std::shared_ptr<Exchange> exchange)
    : MessageCommunicator(std::move(queue), std::move(exchange), nullptr) {}

MessageCommunicator::MessageCommunicator(std::shared_ptr<HostQueue> queue,
                                         std::shared_ptr<Exchange> exchange,
                                         std::shared_ptr<Counter> parent)
    : queue_(std::move(queue)),
      exchange_(std::move(exchange)),
      counter_(std::make_shared<Counter>()),
      rank_(exchange_->rank()),
      size_(exchange_->size()) {
    counter_->parent = std::move(parent);
}

MessageCommunicator::~MessageCommunicator() = default;

int64_t MessageCommunicator::sent_bytes() const { return counter_->bytes; }

void MessageCommunicator::count_sent(int64_t bytes) {
    for (Counter* counter = counter_.get(); counter != nullptr; counter = counter->parent.get()) {
        counter->bytes += bytes;
    }
}

CollectiveCall MessageCommunicator::next_call(CollectiveKind kind, const CollectiveLabel& label,
                                              DType dtype, int root) {
    return {.kind = kind, .sequence = ++sequence_, .dtype = dtype, .root = root, .label = label};
}

void MessageCommunicator::check_parts(std::span<const Tensor> parts, const char* operation) const {
    LATHE_CHECK(static_cast<int>(parts.size()) == size_, "{}: {} parts for {} ranks", operation,
                parts.size(), size_);
}

void MessageCommunicator::move(CollectiveCall call, std::vector<Traffic> traffic) {
    queue_->run([exchange = exchange_, call = std::move(call), traffic = std::move(traffic)] {
        exchange->run(call, traffic);
    });
}

CollectiveCall MessageCommunicator::announce(CollectiveKind kind, std::vector<Traffic> traffic,
                                             int64_t sent_bytes, const CollectiveLabel& label,
                                             DType dtype, int root) {
    for (Traffic& pair : traffic) {
        pair.send = nullptr;
        pair.receive = nullptr;
    }
    count_sent(sent_bytes);
    CollectiveCall call = next_call(kind, label, dtype, root);
    move(call, std::move(traffic));
    return call;
}

void MessageCommunicator::all_to_all(std::span<const Tensor> send, std::span<const Tensor> receive,
                                     const CollectiveLabel& label) {
    check_parts(send, "all_to_all");
    check_parts(receive, "all_to_all");
    const auto me = static_cast<size_t>(rank_);
    check_own_entries(send[me], receive[me], label);
    std::vector<Traffic> traffic = all_to_all_traffic(send, receive);
    count_sent(bytes_to_others(traffic, rank_));
    queue_->run([exchange = exchange_, traffic = std::move(traffic), me,
                 call = next_call(CollectiveKind::all_to_all, label, dtype_in(send, receive))] {
        if (traffic[me].send_bytes > 0) {
            std::memmove(traffic[me].receive, traffic[me].send,
                         static_cast<size_t>(traffic[me].send_bytes));
        }
        exchange->run(call, traffic);
    });
}

void MessageCommunicator::all_gather(std::span<const Tensor> parts, const CollectiveLabel& label) {
    check_parts(parts, "all_gather");
    std::vector<Traffic> traffic = gather_traffic(rank_, parts);
    count_sent(bytes_to_others(traffic, rank_));
    move(next_call(CollectiveKind::all_gather, label, dtype_in(parts)), std::move(traffic));
}

void MessageCommunicator::reduce(CollectiveCall call, std::vector<Tensor> parts, bool gather) {
    queue_->run([exchange = exchange_, call = std::move(call), parts = std::move(parts), gather] {
        scatter_and_sum(*exchange, call, parts);
        if (gather) {
            exchange->run(call, gather_traffic(exchange->rank(), parts));
        }
    });
}

void MessageCommunicator::all_reduce(const Tensor& tensor, const CollectiveLabel& label) {
    check_summable(tensor.dtype());
    std::vector<Tensor> parts;
    for (int rank = 0; rank < size_; ++rank) {
        parts.push_back(part_of_sum(tensor, rank, size_));
    }
    count_sent(bytes_of_sum(tensor, rank_, size_));
    reduce(next_call(CollectiveKind::all_reduce, label, tensor.dtype()), std::move(parts), true);
}

void MessageCommunicator::reduce_scatter(std::span<const Tensor> parts,
                                         const CollectiveLabel& label) {
    check_parts(parts, "reduce_scatter");
    const DType dtype = dtype_in(parts);
    check_summable(dtype);
    count_sent(bytes_to_others(scatter_traffic(rank_, parts), rank_));
    reduce(next_call(CollectiveKind::reduce_scatter, label, dtype), {parts.begin(), parts.end()},
           false);
}

void MessageCommunicator::broadcast(const Tensor& tensor, int root, const CollectiveLabel& label) {
    check_root(root, size_, label);
    std::vector<Traffic> traffic = broadcast_traffic(rank_, size_, tensor, root);
    count_sent(bytes_to_others(traffic, rank_));
    move(next_call(CollectiveKind::broadcast, label, tensor.dtype(), root), std::move(traffic));
}

void MessageCommunicator::run_and_wait(const std::function<void()>& function) {
    queue_->run(function);
    queue_->wait();
}

std::vector<std::vector<std::byte>> MessageCommunicator::gather_bytes(
    const CollectiveCall& call, std::span<const std::byte> mine) {
    count_sent((size_ - 1) * static_cast<int64_t>(mine.size()));
    std::vector<std::vector<std::byte>> all(static_cast<size_t>(size_));
    all[static_cast<size_t>(rank_)].assign(mine.begin(), mine.end());
    const std::vector<Traffic> traffic(all.size(),
                                       Traffic{.send = mine.data(),
                                               .send_bytes = static_cast<int64_t>(mine.size()),
                                               .receive_bytes = Traffic::kAnySize});
    run_and_wait([&] {
        exchange_->run(call, traffic, [&](int peer, int64_t bytes) -> void* {
            std::vector<std::byte>& theirs = all[static_cast<size_t>(peer)];
            theirs.resize(static_cast<size_t>(bytes));
            return theirs.data();
        });
    });
    return all;
}

std::vector<std::vector<std::byte>> MessageCommunicator::all_gather_bytes(
    std::span<const std::byte> mine, const CollectiveLabel& label) {
    return gather_bytes(next_call(CollectiveKind::all_gather_bytes, label), mine);
}

void MessageCommunicator::barrier(const CollectiveLabel& label) {
    const CollectiveCall call = next_call(CollectiveKind::barrier, label);
    run_and_wait([&] { exchange_->run(call, std::vector<Traffic>(static_cast<size_t>(size_))); });
}

std::unique_ptr<Communicator> MessageCommunicator::split(int color, int key) {
    return subgroup(color, key);
}

std::unique_ptr<MessageCommunicator> MessageCommunicator::subgroup(int color, int key) {
    struct Choice {
        int color;
        int key;
        int rank;
    };
    const Choice mine{color, key, rank_};
    const CollectiveCall call = next_call(CollectiveKind::split, {.tensor = "groups", .step = 0});
    std::vector<Choice> members;
    for (const auto& bytes : gather_bytes(call, std::as_bytes(std::span(&mine, 1)))) {
        Choice choice{};
        std::memcpy(&choice, bytes.data(), sizeof(choice));
        if (choice.color == color) {
            members.push_back(choice);
        }
    }
    std::sort(members.begin(), members.end(), [](const Choice& a, const Choice& b) {
        return std::pair(a.key, a.rank) < std::pair(b.key, b.rank);
    });
    std::vector<int> ranks;
    std::vector<int> world_ranks;
    for (const Choice& member : members) {
        ranks.push_back(member.rank);
        world_ranks.push_back(exchange_->world_ranks()[static_cast<size_t>(member.rank)]);
    }
    std::unique_ptr<Transport> transport;
    run_and_wait([&] { transport = exchange_->transport().subgroup(ranks, call.sequence); });
    return std::unique_ptr<MessageCommunicator>(new MessageCommunicator(
        queue_,
        std::make_shared<Exchange>(std::move(transport), std::move(world_ranks),
                                   exchange_->timeout_s()),
        counter_));
}

void MessageCommunicator::abort(const std::string& reason, int exit_code) noexcept {
    exchange_->transport().abort(exchange_->world_ranks()[static_cast<size_t>(rank_)], reason,
                                 exit_code);
}

}  // namespace lathe
