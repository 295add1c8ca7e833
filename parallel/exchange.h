// Exchange: runs one collective after another over a Transport: checks that all ranks call the
// same one, moves its messages, and gives up on ranks that stay away.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/collective.h"
#include "parallel/transport.h"

namespace lathe {

class Exchange {
  public:
    /// `world_ranks` are the group's ranks as the world counts them: failures name those.
    Exchange(std::unique_ptr<Transport> transport, std::vector<int> world_ranks, double timeout_s);
    ~Exchange();

    Transport& transport() { return *transport_; }
    const std::vector<int>& world_ranks() const { return world_ranks_; }
    int rank() const { return transport_->rank(); }
    int size() const { return transport_->size(); }
    double timeout_s() const { return timeout_s_; }
    /// Whether that rank of the world is known to have died. From any thread.
    bool has_ended(int world_rank) const { return transport_->has_ended(world_rank); }

    /// Memory of at least `bytes` for what arrives on its way, kept from call to call.
    std::byte* staging(int64_t bytes);

    /// Memory for `bytes` from `peer`, whose Traffic named no size.
    using Arrival = std::function<void*(int peer, int64_t bytes)>;

    /// Every rank calls it: compares the call with every other rank's, then moves traffic[r] from
    /// and to rank r (one's own entry is ignored), and returns when all of it is done. Throws Error
    /// naming both calls where they differ, the ranks that have died or let `timeout_s` pass
    /// without a message, or the reason of an abort; from then on each call throws.
    void run(const CollectiveCall& call, std::span<const Traffic> traffic,
             const Arrival& arrival = {});

  private:
    enum class Part : uint8_t { header_out, header_in, data_out, data_in };
    static constexpr int kNumParts = 4;

    /// Work that is started and not done, as a token.
    int begin(int peer, Part part);
    void start(const CollectiveCall& call, std::span<const Traffic> traffic);
    void finish(const CollectiveCall& call, std::span<const Traffic> traffic,
                const Arrival& arrival);
    void header_arrived(int peer, Traffic traffic, const Arrival& arrival);
    /// The ranks that are waited for, as the world counts them.
    std::vector<int> missing() const;
    void check_missing_live(const CollectiveCall& call) const;

    std::unique_ptr<Transport> transport_;
    std::vector<int> world_ranks_;
    double timeout_s_;
    std::string failure_;  ///< the first failure, which ended this group
    std::unique_ptr<std::byte[]> staging_;
    int64_t staging_bytes_ = 0;
    int num_pending_ = 0;
    std::vector<uint8_t> pending_;  ///< by token
    std::vector<int> done_;
    std::vector<CollectiveHeader> headers_out_;
    std::vector<CollectiveHeader> headers_in_;
};

}  // namespace lathe
