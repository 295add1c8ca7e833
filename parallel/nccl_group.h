// NcclGroup: one communicator of NCCL, non-blocking, which another thread may abort at any time.
#pragma once

#include <nccl.h>

#include <functional>
#include <mutex>

namespace lathe {

class NcclGroup {
  public:
    NcclGroup() = default;
    NcclGroup(const NcclGroup&) = delete;
    NcclGroup& operator=(const NcclGroup&) = delete;
    /// Aborts what was not finished.
    ~NcclGroup();

    /// Every rank of the group joins with the same id. Waits until NCCL is ready; throws Error with
    /// its reason, or when another thread aborts.
    void join(int rank, int size, const ncclUniqueId& id);
    /// Calls NCCL and waits until it has issued the work to its stream. Throws as join().
    void run(const std::function<ncclResult_t(ncclComm_t)>& issue);
    /// An error that NCCL met after the call: success where there is none, or none to be had now.
    ncclResult_t asynchronous_error();
    /// Ends what waits in NCCL, on the device and in run(). From any thread, and the group serves
    /// no more.
    void abort() noexcept;
    /// Leaves in good order once all work is done; aborts where that takes too long.
    void finish() noexcept;

  private:
    void wait_until_issued(ncclResult_t status);

    std::timed_mutex mutex_;  ///< around every call of NCCL but an abort of what blocks
    ncclComm_t comm_ = nullptr;
    bool aborted_ = false;
};

}  // namespace lathe
