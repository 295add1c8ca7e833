// MessageCommunicator: the Communicator of host memory, over any Transport. All collectives are
// made of messages between pairs, so that a failure can name the rank that stays away. They move as
// little as any: each rank sends what others need of it once. A reduction scatters, sums and, for
// all_reduce, gathers; several times faster than OpenMPI's own (communicator_bench).
//
// Where tensors are no host memory and something else moves them, it serves for the rest: host
// operations, and the comparison of calls (announce).
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/exchange.h"
#include "parallel/host_queue.h"

namespace lathe {

class MessageCommunicator final : public Communicator {
  public:
    /// One rank's communicators all work through one queue, one collective after another.
    MessageCommunicator(std::shared_ptr<HostQueue> queue, std::unique_ptr<Transport> transport,
                        std::vector<int> world_ranks, double timeout_s);
    MessageCommunicator(std::shared_ptr<HostQueue> queue, std::shared_ptr<Exchange> exchange);
    ~MessageCommunicator() override;

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    int64_t sent_bytes() const override;

    void all_to_all(std::span<const Tensor> send, std::span<const Tensor> receive,
                    const CollectiveLabel& label) override;
    void all_gather(std::span<const Tensor> parts, const CollectiveLabel& label) override;
    void all_reduce(const Tensor& tensor, const CollectiveLabel& label) override;
    void reduce_scatter(std::span<const Tensor> parts, const CollectiveLabel& label) override;
    void broadcast(const Tensor& tensor, int root, const CollectiveLabel& label) override;
    std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine,
                                                         const CollectiveLabel& label) override;
    void barrier(const CollectiveLabel& label) override;
    std::unique_ptr<Communicator> split(int color, int key) override;
    void abort(const std::string& reason, int exit_code) noexcept override;

    /// Numbers a call, counts what it sends to others, and has the ranks compare it as they do
    /// their own; nothing moves. Does not wait.
    CollectiveCall announce(CollectiveKind kind, std::vector<Traffic> traffic, int64_t sent_bytes,
                            const CollectiveLabel& label, DType dtype, int root = -1);
    std::unique_ptr<MessageCommunicator> subgroup(int color, int key);
    const std::shared_ptr<Exchange>& exchange() const { return exchange_; }
    void check_parts(std::span<const Tensor> parts, const char* operation) const;

  private:
    /// Bytes sent by a group and by those split from it.
    struct Counter {
        std::atomic<int64_t> bytes = 0;
        std::shared_ptr<Counter> parent;
    };

    MessageCommunicator(std::shared_ptr<HostQueue> queue, std::shared_ptr<Exchange> exchange,
                        std::shared_ptr<Counter> parent);

    CollectiveCall next_call(CollectiveKind kind, const CollectiveLabel& label,
                             DType dtype = DType::f32, int root = -1);
    void count_sent(int64_t bytes);
    /// Runs the call in its turn.
    void move(CollectiveCall call, std::vector<Traffic> traffic);
    /// Has parts[rank()] become the sum; then, if asked, brings every rank's sum to all.
    void reduce(CollectiveCall call, std::vector<Tensor> parts, bool gather);
    std::vector<std::vector<std::byte>> gather_bytes(const CollectiveCall& call,
                                                     std::span<const std::byte> mine);
    /// Has `function` run in its turn and waits for it.
    void run_and_wait(const std::function<void()>& function);

    std::shared_ptr<HostQueue> queue_;
    std::shared_ptr<Exchange> exchange_;  ///< shared with the queue, which may run late
    std::shared_ptr<Counter> counter_;
    int rank_;
    int size_;
    int64_t sequence_ = 0;
};

}  // namespace lathe
