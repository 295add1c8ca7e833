#include "parallel/exchange.h"

#include <algorithm>
#include <utility>

namespace lathe {
namespace {

using Clock = std::chrono::steady_clock;

/// So often a rank that waits looks whether the others live: within the second that mpirun gives
/// the survivors of a death.
constexpr double kLookEvery_s = 0.1;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Exchange::Exchange(std::unique_ptr<Transport> transport, std::vector<int> world_ranks,
                   double timeout_s)
    : transport_(std::move(transport)),
      world_ranks_(std::move(world_ranks)),
      timeout_s_(timeout_s),
      pending_(static_cast<size_t>(transport_->size() * kNumParts)),
      headers_out_(static_cast<size_t>(transport_->size())),
      headers_in_(static_cast<size_t>(transport_->size())) {}

Exchange::~Exchange() = default;

std::byte* Exchange::staging(int64_t bytes) {
    if (bytes > staging_bytes_) {
        staging_.reset();
        staging_ = std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(bytes));
        staging_bytes_ = bytes;
    }
    return staging_.get();
}

void Exchange::run(const CollectiveCall& call, std::span<const Traffic> traffic,
                   const Arrival& arrival) {
    LATHE_CHECK(failure_.empty(), "communication has failed before: {}", failure_);
    try {
        start(call, traffic);
        finish(call, traffic, arrival);
    } catch (const std::exception& error) {
        failure_ = error.what();
        transport_->abandon();
        throw;
    }
}

int Exchange::begin(int peer, Part part) {
    const int token = peer * kNumParts + static_cast<int>(part);
    pending_[static_cast<size_t>(token)] = 1;
    ++num_pending_;
    return token;
}

void Exchange::start(const CollectiveCall& call, std::span<const Traffic> traffic) {
    // Each rank begins with the one after it, so that not all turn to the same one.
    for (int distance = 1; distance < size(); ++distance) {
        const int peer = (rank() + distance) % size();
        const auto index = static_cast<size_t>(peer);
        headers_out_[index] = CollectiveHeader(call, traffic[index]);
        transport_->receive(peer, &headers_in_[index], sizeof(CollectiveHeader),
                            begin(peer, Part::header_in));
        transport_->send(peer, &headers_out_[index], sizeof(CollectiveHeader),
                         begin(peer, Part::header_out));
        if (traffic[index].send != nullptr && traffic[index].send_bytes > 0) {
            transport_->send(peer, traffic[index].send, traffic[index].send_bytes,
                             begin(peer, Part::data_out));
        }
    }
}

void Exchange::finish(const CollectiveCall& call, std::span<const Traffic> traffic,
                      const Arrival& arrival) {
    Clock::time_point last_progress = Clock::now();
    double next_look_s = kLookEvery_s;
    while (num_pending_ > 0) {
        done_.clear();
        if (transport_->poll(done_)) {
            last_progress = Clock::now();
            next_look_s = kLookEvery_s;
        } else {
            const double waited_s = seconds_since(last_progress);
            if (waited_s > next_look_s) {
                check_missing_live(call);
                next_look_s = waited_s + kLookEvery_s;
            }
            LATHE_CHECK(waited_s <= timeout_s_,
                        "{} has waited {} s for {}: died, hanging, or slower than "
                        "--collective-timeout allows",
                        call.text(), timeout_s_, ranks_text(missing()));
            transport_->idle(waited_s);
        }
        for (const int token : done_) {
            pending_[static_cast<size_t>(token)] = 0;
            --num_pending_;
            if (static_cast<Part>(token % kNumParts) == Part::header_in) {
                const int peer = token / kNumParts;
                header_arrived(peer, traffic[static_cast<size_t>(peer)], arrival);
            }
        }
    }
}

void Exchange::header_arrived(int peer, Traffic traffic, const Arrival& arrival) {
    const auto index = static_cast<size_t>(peer);
    const CollectiveHeader& mine = headers_out_[index];
    const CollectiveHeader& theirs = headers_in_[index];
    LATHE_CHECK(
        theirs.agrees_with(mine), "the ranks differ: rank {} calls {}, but rank {} calls {}",
        world_ranks_[static_cast<size_t>(rank())], mine.text(), world_ranks_[index], theirs.text());
    if (traffic.receive_bytes == Traffic::kAnySize && theirs.send_bytes > 0) {
        traffic.receive = arrival(peer, theirs.send_bytes);
    }
    if (traffic.receive != nullptr && theirs.send_bytes > 0) {
        transport_->receive(peer, traffic.receive, theirs.send_bytes, begin(peer, Part::data_in));
    }
}

std::vector<int> Exchange::missing() const {
    std::vector<int> ranks;
    for (int peer = 0; peer < transport_->size(); ++peer) {
        const auto parts = pending_.begin() + peer * kNumParts;
        if (std::any_of(parts, parts + kNumParts, [](uint8_t pending) { return pending != 0; })) {
            ranks.push_back(world_ranks_[static_cast<size_t>(peer)]);
        }
    }
    std::sort(ranks.begin(), ranks.end());
    return ranks;
}

void Exchange::check_missing_live(const CollectiveCall& call) const {
    std::vector<int> ended = missing();
    std::erase_if(ended, [&](int rank) { return !has_ended(rank); });
    LATHE_CHECK(ended.empty(), "{} waits for {}, which died", call.text(), ranks_text(ended));
}

}  // namespace lathe
