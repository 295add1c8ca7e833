#include "parallel/local_communicator.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <numeric>
#include <utility>

#include "parallel/message_communicator.h"

namespace lathe {
namespace {

/// What all ranks of the process share: one lock, and why the job was ended.
struct LocalJob {
    std::mutex mutex;
    std::condition_variable changed;
    int64_t version = 0;  ///< counts changes
    std::string abort_reason;
};

using Message = std::vector<std::byte>;

/// A group: one queue of messages for each pair of ranks, and the subgroups being made.
struct LocalGroup {
    LocalGroup(std::shared_ptr<LocalJob> the_job, int the_size)
        : job(std::move(the_job)),
          size(the_size),
          queues(static_cast<size_t>(the_size) * static_cast<size_t>(the_size)) {}

    std::deque<Message>& queue(int from, int to) {
        return queues[static_cast<size_t>(from) * static_cast<size_t>(size) +
                      static_cast<size_t>(to)];
    }

    struct Subgroup {
        std::shared_ptr<LocalGroup> group;
        size_t num_joined = 0;
    };

    std::shared_ptr<LocalJob> job;
    int size;
    std::vector<std::deque<Message>> queues;
    std::map<std::pair<int64_t, int>, Subgroup> subgroups;  ///< by serial and first member
};

class LocalTransport final : public Transport {
  public:
    LocalTransport(std::shared_ptr<LocalGroup> group, int rank)
        : group_(std::move(group)),
          job_(*group_->job),
          rank_(rank),
          receives_(static_cast<size_t>(group_->size)) {}

    int rank() const override { return rank_; }
    int size() const override { return group_->size; }

    void send(int peer, const void* data, int64_t bytes, int token) override {
        Message message(static_cast<size_t>(bytes));
        std::memcpy(message.data(), data, message.size());
        const std::lock_guard lock(job_.mutex);
        group_->queue(rank_, peer).push_back(std::move(message));
        sent_.push_back(token);
        notify();
    }

    void receive(int peer, void* data, int64_t bytes, int token) override {
        receives_[static_cast<size_t>(peer)].push_back({data, bytes, token});
    }

    bool poll(std::vector<int>& done) override {
        const size_t before = done.size();
        done.insert(done.end(), sent_.begin(), sent_.end());
        sent_.clear();
        for (int peer = 0; peer < size(); ++peer) {
            std::deque<Receive>& receives = receives_[static_cast<size_t>(peer)];
            Message message;
            while (!receives.empty() && take(peer, message)) {
                const Receive& receive = receives.front();
                LATHE_CHECK(static_cast<int64_t>(message.size()) == receive.bytes,
                            "a message of {} bytes came where {} were awaited", message.size(),
                            receive.bytes);
                std::memcpy(receive.data, message.data(), message.size());
                done.push_back(receive.token);
                receives.pop_front();
            }
        }
        return done.size() > before;
    }

    void idle(double) override {
        std::unique_lock lock(job_.mutex);
        job_.changed.wait_for(lock, std::chrono::milliseconds(5),
                              [&] { return job_.version != seen_version_; });
        seen_version_ = job_.version;
        throw_if_aborted();
    }

    void abandon() noexcept override {
        for (auto& receives : receives_) {
            receives.clear();
        }
    }

    std::unique_ptr<Transport> subgroup(std::span<const int> members, int64_t serial) override {
        const std::lock_guard lock(job_.mutex);
        const std::pair<int64_t, int> key(serial, members.front());
        LocalGroup::Subgroup& entry = group_->subgroups[key];
        if (!entry.group) {
            entry.group =
                std::make_shared<LocalGroup>(group_->job, static_cast<int>(members.size()));
        }
        const std::shared_ptr<LocalGroup> group = entry.group;
        if (++entry.num_joined == members.size()) {
            group_->subgroups.erase(key);
        }
        const auto place = std::find(members.begin(), members.end(), rank_) - members.begin();
        return std::make_unique<LocalTransport>(group, static_cast<int>(place));
    }

    bool has_ended(int) const override { return false; }
    void abort(int world_rank, const std::string& reason, int) noexcept override {
        const std::lock_guard lock(job_.mutex);
        if (job_.abort_reason.empty()) {
            job_.abort_reason = fmt::format("rank {} has ended the job: {}", world_rank, reason);
        }
        notify();
    }

  private:
    struct Receive {
        void* data;
        int64_t bytes;
        int token;
    };

    void notify() {
        ++job_.version;
        job_.changed.notify_all();
    }

    void throw_if_aborted() const {
        LATHE_CHECK(job_.abort_reason.empty(), "{}", job_.abort_reason);
    }

    bool take(int peer, Message& message) {
        const std::lock_guard lock(job_.mutex);
        throw_if_aborted();
        std::deque<Message>& queue = group_->queue(peer, rank_);
        if (queue.empty()) {
            return false;
        }
        message = std::move(queue.front());
        queue.pop_front();
        return true;
    }

    std::shared_ptr<LocalGroup> group_;
    LocalJob& job_;
    int rank_;
    std::vector<std::deque<Receive>> receives_;  ///< by peer, in order
    std::vector<int> sent_;                      ///< done, and not reported yet
    int64_t seen_version_ = 0;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_local_communicators(
    std::span<Backend* const> backends, double timeout_s) {
    const auto group = std::make_shared<LocalGroup>(std::make_shared<LocalJob>(),
                                                    static_cast<int>(backends.size()));
    std::vector<int> world_ranks(backends.size());
    std::iota(world_ranks.begin(), world_ranks.end(), 0);
    std::vector<std::unique_ptr<Communicator>> communicators;
    for (const int rank : world_ranks) {
        communicators.push_back(std::make_unique<MessageCommunicator>(
            std::make_shared<BackendQueue>(*backends[static_cast<size_t>(rank)]),
            std::make_unique<LocalTransport>(group, rank), world_ranks, timeout_s));
    }
    return communicators;
}

}  // namespace lathe
