// The CPU backend with a communication stream of its own: a thread that moves and adds what is
// exchanged while the others compute.
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_backend_impl.h"
#include "kernels/host_stream.h"

namespace lathe::cpu {
namespace {

/// An operation that holds what its issuer may let go before the stream runs it.
template <typename Operation>
class Kept {
  public:
    explicit Kept(const Operation& op) : op_(op) {}
    Operation get() const { return op_; }

  private:
    Operation op_;
};

template <>
class Kept<Accumulate> {
  public:
    explicit Kept(const Accumulate& op)
        : op_(op), contributions_(op.contributions.begin(), op.contributions.end()) {}
    Accumulate get() const {
        Accumulate op = op_;
        op.contributions = contributions_;
        return op;
    }

  private:
    Accumulate op_;
    std::vector<Tensor> contributions_;
};

/// Compute runs at once, in the calling thread and its team; communication in one thread beside
/// them. So an event of the compute stream has always happened.
class OverlappingCpuBackend final : public CpuBackend {
  public:
    explicit OverlappingCpuBackend(int num_threads) : CpuBackend(num_threads) {
        device_.communication_runs_beside = true;
    }

    void run_on_host(Stream stream, std::function<void()> function) override {
        if (stream == Stream::compute) {
            function();
        } else {
            stream_.run(std::move(function));
        }
    }

    Event record(Stream stream) override {
        return {.ticket = stream == Stream::compute ? 0 : stream_.ticket()};
    }
    double exposed_communication_s() const override { return stream_.blocked_s(); }

  protected:
    void execute_copy(const Tensor& destination, const Tensor& source, Stream stream) override {
        if (stream == Stream::compute) {
            CpuBackend::execute_copy(destination, source, stream);
        } else {
            stream_.run([=, this] { beside_.copy(destination, source, Stream::compute); });
        }
    }
    void execute_fill_zero(const Tensor& tensor, Stream stream) override {
        if (stream == Stream::compute) {
            CpuBackend::execute_fill_zero(tensor, stream);
        } else {
            stream_.run([=, this] { beside_.fill_zero(tensor, Stream::compute); });
        }
    }
    void execute_wait(Stream stream, Event event) override {
        if (stream == Stream::compute) {
            stream_.wait(event.ticket);
        }
    }
    void execute_synchronize(Stream stream) override {
        if (stream == Stream::communication) {
            stream_.synchronize();
        }
    }
    void stamp(Stream stream, std::shared_ptr<double> seconds) override {
        if (stream == Stream::compute) {
            CpuBackend::stamp(stream, std::move(seconds));
        } else {
            stream_.run([seconds = std::move(seconds)] { *seconds = WorkRecorder::now_s(); });
        }
    }

#define LATHE_EXECUTE(Operation)                                                                   \
    void execute(const Operation& op, Stream stream) override {                                    \
        if (stream == Stream::compute) {                                                           \
            CpuBackend::execute(op, stream);                                                       \
        } else {                                                                                   \
            stream_.run(                                                                           \
                [this, kept = Kept<Operation>(op)] { beside_.run(kept.get(), Stream::compute); }); \
        }                                                                                          \
    }
    LATHE_OPERATIONS(LATHE_EXECUTE)
#undef LATHE_EXECUTE

  private:
    CpuBackend beside_{1};  ///< serves the stream's thread
    HostStream stream_;     ///< last: it ends first
};

}  // namespace
}  // namespace lathe::cpu

namespace lathe {

std::unique_ptr<Backend> make_overlapping_cpu_backend(int num_threads) {
    LATHE_CHECK(num_threads >= 1, "the CPU backend needs at least 1 thread, not {}", num_threads);
    return std::make_unique<cpu::OverlappingCpuBackend>(num_threads);
}

}  // namespace lathe
