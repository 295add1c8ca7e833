#include "parallel/message_communicator.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "parallel/ordered_sum.h"

namespace lathe {
namespace {

/// The type of whatever moves; f32 where nothing does.
DType dtype_in(std::span<const Tensor> tensors) {
    for (const Tensor& tensor : tensors) {
        if (tensor.size() > 0) {
            return tensor.dtype();
        }
    }
    return DType::f32;
}

void check_summable(DType dtype) {
    LATHE_CHECK(dtype != DType::i32, "a reduction sums f32, bf16 or f64, not {}", name_of(dtype));
}

/// One's own part goes to all, and theirs come.
std::vector<Traffic> gather_traffic(int rank, std::span<const Tensor> parts) {
    const Tensor& mine = parts[static_cast<size_t>(rank)];
    std::vector<Traffic> traffic;
    for (const Tensor& part : parts) {
        traffic.push_back({.send = mine.data(),
                           .send_bytes = mine.bytes(),
                           .receive = part.data(),
                           .receive_bytes = part.bytes()});
    }
    return traffic;
}

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

MessageCommunicator::MessageCommunicator(Backend& backend, std::unique_ptr<Transport> transport,
                                         std::vector<int> world_ranks, double timeout_s)
    : MessageCommunicator(
          backend,
          std::make_shared<Exchange>(std::move(transport), std::move(world_ranks), timeout_s),
          nullptr) {}

MessageCommunicator::MessageCommunicator(Backend& backend, std::shared_ptr<Exchange> exchange,
                                         std::shared_ptr<Counter> parent)
    : backend_(backend),
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

void MessageCommunicator::all_to_all(std::span<const Tensor> send, std::span<const Tensor> receive,
                                     const CollectiveLabel& label) {
    check_parts(send, "all_to_all");
    check_parts(receive, "all_to_all");
    const auto me = static_cast<size_t>(rank_);
    LATHE_CHECK(send[me].bytes() == receive[me].bytes(),
                "all_to_all of {}: {} bytes to oneself, {} from oneself", label.tensor,
                send[me].bytes(), receive[me].bytes());
    const DType sent = dtype_in(send);
    std::vector<Traffic> traffic;
    for (size_t peer = 0; peer < send.size(); ++peer) {
        traffic.push_back({.send = send[peer].data(),
                           .send_bytes = send[peer].bytes(),
                           .receive = receive[peer].data(),
                           .receive_bytes = receive[peer].bytes()});
        count_sent(peer == me ? 0 : send[peer].bytes());
    }
    const DType dtype = std::any_of(send.begin(), send.end(),
                                    [](const Tensor& tensor) { return tensor.size() > 0; })
                            ? sent
                            : dtype_in(receive);
    backend_.run_on_host(Stream::communication,
                         [exchange = exchange_, traffic = std::move(traffic), me,
                          call = next_call(CollectiveKind::all_to_all, label, dtype)] {
                             if (traffic[me].send_bytes > 0) {
                                 std::memmove(traffic[me].receive, traffic[me].send,
                                              static_cast<size_t>(traffic[me].send_bytes));
                             }
                             exchange->run(call, traffic);
                         });
}

void MessageCommunicator::all_gather(std::span<const Tensor> parts, const CollectiveLabel& label) {
    check_parts(parts, "all_gather");
    const Tensor& mine = parts[static_cast<size_t>(rank_)];
    count_sent((size_ - 1) * mine.bytes());
    backend_.run_on_host(Stream::communication,
                         [exchange = exchange_, traffic = gather_traffic(rank_, parts),
                          call = next_call(CollectiveKind::all_gather, label, dtype_in(parts))] {
                             exchange->run(call, traffic);
                         });
}

void MessageCommunicator::reduce(CollectiveCall call, std::vector<Tensor> parts, bool gather) {
    backend_.run_on_host(Stream::communication, [exchange = exchange_, call = std::move(call),
                                                 parts = std::move(parts), gather] {
        scatter_and_sum(*exchange, call, parts);
        if (gather) {
            exchange->run(call, gather_traffic(exchange->rank(), parts));
        }
    });
}

void MessageCommunicator::all_reduce(const Tensor& tensor, const CollectiveLabel& label) {
    const DType dtype = tensor.dtype();
    check_summable(dtype);
    const Tensor row = tensor.flat();
    std::vector<Tensor> parts;
    for (int64_t rank = 0; rank < size_; ++rank) {
        parts.push_back(row.slice(row.size() * rank / size_, row.size() * (rank + 1) / size_));
    }
    const int64_t own = parts[static_cast<size_t>(rank_)].bytes();
    count_sent(row.bytes() - own + (size_ - 1) * own);
    reduce(next_call(CollectiveKind::all_reduce, label, dtype), std::move(parts), true);
}

void MessageCommunicator::reduce_scatter(std::span<const Tensor> parts,
                                         const CollectiveLabel& label) {
    check_parts(parts, "reduce_scatter");
    const DType dtype = dtype_in(parts);
    check_summable(dtype);
    for (const Tensor& part : parts) {
        count_sent(part.bytes());
    }
    count_sent(-parts[static_cast<size_t>(rank_)].bytes());
    reduce(next_call(CollectiveKind::reduce_scatter, label, dtype), {parts.begin(), parts.end()},
           false);
}

void MessageCommunicator::broadcast(const Tensor& tensor, int root, const CollectiveLabel& label) {
    LATHE_CHECK(root >= 0 && root < size_, "broadcast of {}: root {} of {} ranks", label.tensor,
                root, size_);
    count_sent(rank_ == root ? (size_ - 1) * tensor.bytes() : 0);
    std::vector<Traffic> traffic(static_cast<size_t>(size_));
    if (rank_ == root) {
        std::fill(traffic.begin(), traffic.end(),
                  Traffic{.send = tensor.data(), .send_bytes = tensor.bytes()});
    } else {
        traffic[static_cast<size_t>(root)] = {.receive = tensor.data(),
                                              .receive_bytes = tensor.bytes()};
    }
    backend_.run_on_host(Stream::communication,
                         [exchange = exchange_, traffic = std::move(traffic),
                          call = next_call(CollectiveKind::broadcast, label, tensor.dtype(),
                                           root)] { exchange->run(call, traffic); });
}

void MessageCommunicator::run_and_wait(const std::function<void()>& function) {
    backend_.run_on_host(Stream::communication, function);
    backend_.synchronize(Stream::communication);
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
    return std::unique_ptr<Communicator>(new MessageCommunicator(
        backend_,
        std::make_shared<Exchange>(std::move(transport), std::move(world_ranks),
                                   exchange_->timeout_s()),
        counter_));
}

void MessageCommunicator::abort(const std::string& reason, int exit_code) noexcept {
    exchange_->transport().abort(exchange_->world_ranks()[static_cast<size_t>(rank_)], reason,
                                 exit_code);
}

}  // namespace lathe
