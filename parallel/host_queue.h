// HostQueue: what runs host functions one after another for a communicator: a backend's
// communication stream where tensors are host memory, a thread of its own where they are not.
#pragma once

#include <functional>

#include "kernels/backend.h"
#include "kernels/host_stream.h"

namespace lathe {

class HostQueue {
  public:
    virtual ~HostQueue() = default;
    virtual void run(std::function<void()> function) = 0;
    /// Blocks until all that was given to run() is done; throws what a function threw.
    virtual void wait() = 0;
};

/// In order with what else the backend's communication stream does.
class BackendQueue final : public HostQueue {
  public:
    explicit BackendQueue(Backend& backend) : backend_(backend) {}
    void run(std::function<void()> function) override {
        backend_.run_on_host(Stream::communication, std::move(function));
    }
    void wait() override { backend_.synchronize(Stream::communication); }

  private:
    Backend& backend_;
};

/// Beside everything else.
class ThreadQueue final : public HostQueue {
  public:
    void run(std::function<void()> function) override { stream_.run(std::move(function)); }
    void wait() override { stream_.synchronize(); }

  private:
    HostStream stream_;
};

}  // namespace lathe
