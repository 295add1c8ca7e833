#include "parallel/nccl_group.h"

#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "parallel/nccl_check.h"

namespace lathe {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// Calls of a non-blocking communicator return at once; one that does not is what an abort is for.
constexpr milliseconds kCallTakes{500};
constexpr milliseconds kFinishTakes{10'000};

/// Spins first: what is issued every few hundred microseconds must not sleep.
class Pause {
  public:
    void operator()() {
        if (Clock::now() - start_ < milliseconds(1)) {
            std::this_thread::yield();
        } else {
            std::this_thread::sleep_for(milliseconds(1));
        }
    }
    bool longer_than(milliseconds limit) const { return Clock::now() - start_ > limit; }

  private:
    Clock::time_point start_ = Clock::now();
};

}  // namespace

void NcclGroup::join(int rank, int size, const ncclUniqueId& id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t status = ncclSuccess;
    {
        const std::lock_guard lock(mutex_);
        LATHE_CHECK(!aborted_, "NCCL: aborted");
        status = ncclCommInitRankConfig(&comm_, size, id, rank, &config);
    }
    wait_until_issued(status);
}

NcclGroup::~NcclGroup() { abort(); }

void NcclGroup::run(const std::function<ncclResult_t(ncclComm_t)>& issue) {
    ncclResult_t status = ncclSuccess;
    {
        const std::lock_guard lock(mutex_);
        LATHE_CHECK(!aborted_, "NCCL: aborted");
        status = issue(comm_);
    }
    wait_until_issued(status);
}

void NcclGroup::wait_until_issued(ncclResult_t status) {
    for (Pause pause; status == ncclInProgress; pause()) {
        const std::lock_guard lock(mutex_);
        LATHE_CHECK(!aborted_, "NCCL: aborted");
        NCCL_CHECK(ncclCommGetAsyncError(comm_, &status));
    }
    LATHE_CHECK(status == ncclSuccess, "{}", nccl_reason(status));
}

ncclResult_t NcclGroup::asynchronous_error() {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    ncclResult_t status = ncclSuccess;
    if (!lock || aborted_ || comm_ == nullptr ||
        ncclCommGetAsyncError(comm_, &status) != ncclSuccess || status == ncclInProgress) {
        return ncclSuccess;
    }
    return status;
}

void NcclGroup::abort() noexcept {
    const std::unique_lock lock(mutex_, kCallTakes);
    if (!std::exchange(aborted_, true) && comm_ != nullptr) {
        static_cast<void>(ncclCommAbort(comm_));
    }
}

void NcclGroup::finish() noexcept {
    bool finished = false;
    {
        const std::lock_guard lock(mutex_);
        ncclResult_t status = aborted_ ? ncclInvalidUsage : ncclCommFinalize(comm_);
        for (Pause pause; status == ncclInProgress && !pause.longer_than(kFinishTakes); pause()) {
            if (ncclCommGetAsyncError(comm_, &status) != ncclSuccess) {
                status = ncclInternalError;
            }
        }
        finished = status == ncclSuccess && ncclCommDestroy(comm_) == ncclSuccess;
        comm_ = finished ? nullptr : comm_;
    }
    if (!finished) {
        abort();
    }
}

}  // namespace lathe
