#include "parallel/nccl_watch.h"

#include <algorithm>
#include <utility>

#include "parallel/nccl_check.h"

namespace lathe {
namespace {

using std::chrono::milliseconds;

/// So often the watch looks: within the second that mpirun gives the survivors of a death.
constexpr milliseconds kLookEvery{100};
/// Where NCCL fails, the reason (a rank that died, another call) is known soon after, or not.
constexpr milliseconds kReasonWithin{1000};
/// For the rank's own thread to come to a check, or to end.
constexpr milliseconds kNoticedWithin{10'000};
/// A rank whose own device does not come to a call knows that it is the one, and says so before
/// those that wait for it.
constexpr double kOwnShare = 0.9;

std::vector<int> others(const Exchange& exchange) {
    std::vector<int> ranks = exchange.world_ranks();
    ranks.erase(ranks.begin() + exchange.rank());
    std::sort(ranks.begin(), ranks.end());
    return ranks;
}

}  // namespace

NcclWatch::NcclWatch(int device, double timeout_s, std::function<void(const std::string&)> end_job)
    : device_(device),
      timeout_s_(timeout_s),
      end_job_(std::move(end_job)),
      thread_([this] { watch(); }) {}

NcclWatch::~NcclWatch() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
    if (aborting_.joinable()) {
        aborting_.join();
    }
}

void NcclWatch::add(const std::shared_ptr<NcclGroup>& group) {
    const std::lock_guard lock(mutex_);
    groups_.push_back(group);
}

void NcclWatch::remove(const std::shared_ptr<NcclGroup>& group) {
    const std::lock_guard lock(mutex_);
    std::erase(groups_, group);
}

void NcclWatch::run(const CollectiveCall& call, const NcclMembers& members, cudaStream_t stream,
                    const std::function<void()>& issue) {
    check();
    Work* work = nullptr;
    {
        const std::lock_guard lock(mutex_);
        if (free_events_.empty()) {
            free_events_.emplace_back();
        }
        work_.push_back(
            {.call = call, .members = members, .events = std::move(free_events_.back())});
        free_events_.pop_back();
        work = &work_.back();  // stays: only the front leaves, and not before it is issued
        CUDA_CHECK(cudaEventRecord(work->events.start.get(), stream));
    }
    try {
        issue();
    } catch (const std::exception& error) {
        {
            std::unique_lock lock(mutex_);
            changed_.wait_for(lock, kReasonWithin, [&] { return !failure_.empty(); });
        }
        fail(fmt::format("{} with {}: {}", call.text(), ranks_text(others(*members.exchange)),
                         error.what()));
        throw_failure();
    }
    const std::lock_guard lock(mutex_);
    CUDA_CHECK(cudaEventRecord(work->events.end.get(), stream));
    work->issued = true;
}

void NcclWatch::throw_failure() {
    std::string text;
    {
        const std::lock_guard lock(mutex_);
        text = failure_;
        noticed_ = true;
    }
    changed_.notify_all();
    lathe::fail("{}", text);
}

void NcclWatch::check() {
    if (failed()) {
        throw_failure();
    }
}

bool NcclWatch::failed() {
    const std::lock_guard lock(mutex_);
    return !failure_.empty();
}

void NcclWatch::fail(const std::string& text) {
    {
        const std::lock_guard lock(mutex_);
        if (!failure_.empty()) {
            return;
        }
        failure_ = text;
        // In a thread of its own, as NCCL may take its time: the job must end all the same.
        aborting_ = std::thread([device = device_, groups = groups_] {
            static_cast<void>(cudaSetDevice(device));
            for (const std::shared_ptr<NcclGroup>& group : groups) {
                group->abort();
            }
        });
    }
    changed_.notify_all();
}

bool NcclWatch::harvest() {
    bool moved = false;
    while (!work_.empty() && work_.front().issued && cuda::is_done(work_.front().events.end)) {
        free_events_.push_back(std::move(work_.front().events));
        work_.pop_front();
        moved = true;
    }
    if (!work_.empty() && !work_.front().started && cuda::is_done(work_.front().events.start)) {
        work_.front().started = true;
        moved = true;
    }
    return moved;
}

std::string NcclWatch::complaint(double stood_s) {
    const Work& work = work_.front();
    const Exchange& exchange = *work.members.exchange;
    std::vector<int> ended = others(exchange);
    std::erase_if(ended, [&](int rank) { return !exchange.has_ended(rank); });
    if (!ended.empty()) {
        return fmt::format("{} waits for {}, which died", work.call.text(), ranks_text(ended));
    }
    // A better reason for it may come meanwhile: a rank that died, or calls something else.
    const ncclResult_t error = stood_s * 1000 < static_cast<double>(kReasonWithin.count())
                                   ? ncclSuccess
                                   : work.members.group->asynchronous_error();
    if (error != ncclSuccess) {
        return fmt::format("{} waits for {}: {}", work.call.text(), ranks_text(others(exchange)),
                           nccl_reason(error));
    }
    if (work.started && stood_s > timeout_s_) {
        return fmt::format(
            "{} has waited {} s for {}: died, hanging, or slower than --collective-timeout allows",
            work.call.text(), timeout_s_, ranks_text(others(exchange)));
    }
    if (!work.started && stood_s > kOwnShare * timeout_s_) {
        return fmt::format(
            "this rank's GPU has not come to {} in {:.3g} s: hanging, or slower than "
            "--collective-timeout allows",
            work.call.text(), stood_s);
    }
    return "";
}

void NcclWatch::watch() {
    static_cast<void>(cudaSetDevice(device_));
    std::unique_lock lock(mutex_);
    Clock::time_point last_moved = Clock::now();
    while (!ending_) {
        if (!failure_.empty()) {
            end_job_unless_noticed(lock);
            changed_.wait(lock, [&] { return ending_; });
        } else if (work_.empty()) {
            last_moved = Clock::now();
            wait_a_little(lock);
        } else if (harvest()) {
            last_moved = Clock::now();
        } else {
            const double stood_s = std::chrono::duration<double>(Clock::now() - last_moved).count();
            const std::string text = complaint(stood_s);
            if (!text.empty()) {
                lock.unlock();
                fail(text);
                lock.lock();
            } else {
                wait_a_little(lock);
            }
        }
    }
}

void NcclWatch::wait_a_little(std::unique_lock<std::mutex>& lock) {
    changed_.wait_for(lock, kLookEvery, [&] { return ending_ || !failure_.empty(); });
}

void NcclWatch::end_job_unless_noticed(std::unique_lock<std::mutex>& lock) {
    if (!changed_.wait_for(lock, kNoticedWithin, [&] { return noticed_ || ending_; })) {
        const std::string text = failure_;
        lock.unlock();
        end_job_(text);
        lock.lock();
    }
}

void WatchedQueue::run(std::function<void()> function) {
    thread_.run([watch = watch_, function = std::move(function)] {
        try {
            function();
        } catch (const std::exception& error) {
            watch->fail(error.what());
            throw;
        }
    });
}

void WatchedQueue::wait() {
    try {
        thread_.wait();
    } catch (...) {
        watch_->check();
        throw;
    }
}

}  // namespace lathe
