#include "plan/dry_communicator.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

namespace lathe {
namespace {

/// A group of ranks as one of them sees it.
struct Group {
    int size = 1;
    int rank = 0;            ///< in the group
    std::vector<char> near;  ///< by group rank: on this rank's node
    int num_near = 1;        ///< this rank among them
    int num_nodes = 1;

    Group(const std::vector<int>& world_ranks, int world_rank, int ranks_per_node)
        : size(static_cast<int>(world_ranks.size())) {
        std::set<int> nodes;
        num_near = 0;
        for (const int other : world_ranks) {
            if (other == world_rank) {
                rank = static_cast<int>(near.size());
            }
            nodes.insert(other / ranks_per_node);
            near.push_back(other / ranks_per_node == world_rank / ranks_per_node ? 1 : 0);
            num_near += near.back();
        }
        num_nodes = static_cast<int>(nodes.size());
    }
};

/// What a rank moves to or from the others.
struct Moved {
    double near_bytes = 0.0;
    double far_bytes = 0.0;
};

struct Cost {
    double seconds = 0.0;
    double busy_s = 0.0;  ///< of the device's own cores
};

class DryCommunicator final : public Communicator {
  public:
    DryCommunicator(DryBackend& backend, const DeviceSpeed& speed, Group group, DryWorld world)
        : backend_(backend),
          speed_(speed),
          hardware_(speed.hardware()),
          group_(std::move(group)),
          world_(std::move(world)) {}

    int rank() const override { return group_.rank; }
    int size() const override { return group_.size; }
    int64_t sent_bytes() const override { return static_cast<int64_t>(sent_bytes_); }

    void all_to_all(std::span<const Tensor> send, std::span<const Tensor> receive,
                    const CollectiveLabel&) override {
        const Moved sent = moved(send);
        charge("all_to_all", pairwise(sent, moved(receive)), sent.near_bytes + sent.far_bytes);
    }

    void all_gather(std::span<const Tensor> parts, const CollectiveLabel&) override {
        const auto mine = static_cast<double>(parts[static_cast<size_t>(group_.rank)].bytes());
        const double sent = mine * others();
        charge("all_gather",
               hardware_.nccl ? ring(total(parts), 1.0) : pairwise(to_all(mine), moved(parts)),
               hardware_.nccl ? ring_bytes(total(parts)) : sent);
    }

    void reduce_scatter(std::span<const Tensor> parts, const CollectiveLabel&) override {
        const auto mine = static_cast<double>(parts[static_cast<size_t>(group_.rank)].bytes());
        const double sent = total(parts) - mine;
        charge("reduce_scatter",
               hardware_.nccl ? ring(total(parts), 1.0)
                              : with_sums(pairwise(moved(parts), to_all(mine)), mine),
               hardware_.nccl ? ring_bytes(total(parts)) : sent);
    }

    void all_reduce(const Tensor& tensor, const CollectiveLabel&) override {
        const auto bytes = static_cast<double>(tensor.bytes());
        const double part = bytes / group_.size;
        if (hardware_.nccl) {
            charge("all_reduce", ring(bytes, 2.0), 2.0 * ring_bytes(bytes));
            return;
        }
        const Cost scatter = with_sums(pairwise(to_all(part), to_all(part)), part);
        const Cost gather = pairwise(to_all(part), to_all(part));
        charge("all_reduce", {scatter.seconds + gather.seconds, scatter.busy_s + gather.busy_s},
               2.0 * part * others());
    }

    void broadcast(const Tensor& tensor, int root, const CollectiveLabel&) override {
        const auto bytes = static_cast<double>(tensor.bytes());
        const bool sends = group_.rank == root;
        const Cost cost = hardware_.nccl ? ring(bytes, 1.0)
                                         : pairwise(sends ? to_all(bytes) : Moved(),
                                                    sends ? Moved() : Moved{.near_bytes = bytes});
        charge("broadcast", cost, sends ? bytes * others() : 0.0);
    }

    std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine,
                                                         const CollectiveLabel&) override {
        const auto bytes = static_cast<double>(mine.size());
        charge("all_gather_bytes", host_exchange(bytes), bytes * others());
        backend_.synchronize(Stream::communication);
        const auto reply_bytes = static_cast<size_t>(world_.reply_bytes);
        const std::span<const std::byte> said = mine.first(std::min(mine.size(), reply_bytes));
        std::vector<std::byte> reply(said.begin(), said.end());
        reply.resize(reply_bytes);
        std::vector<std::vector<std::byte>> all(static_cast<size_t>(group_.size), reply);
        all[static_cast<size_t>(group_.rank)].assign(mine.begin(), mine.end());
        return all;
    }

    void barrier(const CollectiveLabel&) override {
        charge("barrier", host_exchange(0.0), 0.0);
        backend_.synchronize(Stream::communication);
    }

    std::unique_ptr<Communicator> split(int color, int) override {
        LATHE_CHECK(
            num_splits_ < world_.splits.size() && world_.splits[num_splits_](world_.rank) == color,
            "a dry communicator was not told of split number {} by color {}", num_splits_ + 1,
            color);
        const ColorOf& color_of = world_.splits[num_splits_++];
        std::vector<int> members;
        for (int other = 0; other < world_.size; ++other) {
            if (color_of(other) == color) {
                members.push_back(other);
            }
        }
        DryWorld inner = world_;
        inner.splits.clear();
        return std::make_unique<DryCommunicator>(
            backend_, speed_, Group(members, world_.rank, world_.ranks_per_node), inner);
    }

    void abort(const std::string&, int) noexcept override {}

  private:
    /// Pairs of messages that a GPU has under way at a time.
    static constexpr int kPairsAtOnce = 8;

    double others() const { return group_.size - 1.0; }

    static double total(std::span<const Tensor> parts) {
        double bytes = 0.0;
        for (const Tensor& part : parts) {
            bytes += static_cast<double>(part.bytes());
        }
        return bytes;
    }

    Moved moved(std::span<const Tensor> tensors) const {
        Moved moved;
        for (size_t peer = 0; peer < tensors.size(); ++peer) {
            if (static_cast<int>(peer) != group_.rank) {
                (group_.near[peer] != 0 ? moved.near_bytes : moved.far_bytes) +=
                    static_cast<double>(tensors[peer].bytes());
            }
        }
        return moved;
    }

    Moved to_all(double bytes) const {
        return {.near_bytes = bytes * (group_.num_near - 1),
                .far_bytes = bytes * (group_.size - group_.num_near)};
    }

    double near_bandwidth() const {
        return hardware_.link_fraction * hardware_.within_node.bytes_per_second;
    }
    double far_bandwidth() const {
        return hardware_.link_fraction * hardware_.between_nodes.bytes_per_second;
    }

    /// A message to and from each other rank: all at once, but a CPU turns to one after another.
    Cost pairwise(const Moved& sent, const Moved& received) const {
        const double near_s = std::max(sent.near_bytes, received.near_bytes) / near_bandwidth();
        const double far_s = std::max(sent.far_bytes, received.far_bytes) / far_bandwidth();
        const int near = group_.num_near - 1;
        const int far = group_.size - group_.num_near;
        if (hardware_.nccl) {
            const double rounds = std::ceil(static_cast<double>(near + far) / kPairsAtOnce);
            const double latency_s =
                far > 0 ? hardware_.between_nodes.latency_s : hardware_.within_node.latency_s;
            return {.seconds = rounds * latency_s + std::max(near_s, far_s)};
        }
        const double latency_s =
            near * hardware_.within_node.latency_s + far * hardware_.between_nodes.latency_s;
        return {.seconds = latency_s + near_s + far_s, .busy_s = latency_s + near_s};
    }

    /// On the host: every message of a sum is read once, the sum written.
    Cost with_sums(Cost cost, double mine) const {
        const double seconds =
            speed_.copy_seconds(mine * (others() + 2.0)) * speed_.one_thread_factor();
        return {cost.seconds + seconds, cost.busy_s + seconds};
    }

    double ring_bytes(double bytes) const { return bytes * others() / group_.size; }

    /// `passes` times around a ring that enters and leaves each node once, over all of the group's
    /// network adapters there.
    Cost ring(double bytes, double passes) const {
        if (group_.size == 1) {
            return {};
        }
        const double between = group_.num_nodes - 1.0;
        const double latency_s = (others() - between) * hardware_.within_node.latency_s +
                                 between * hardware_.between_nodes.latency_s;
        double bandwidth = near_bandwidth();
        if (group_.num_nodes > 1) {
            const double through_node = far_bandwidth() * group_.num_near;
            bandwidth = group_.num_near > 1 ? std::min(bandwidth, through_node) : through_node;
        }
        return {.seconds = passes * (latency_s + ring_bytes(bytes) / bandwidth)};
    }

    /// Host operations use messages between pairs everywhere.
    Cost host_exchange(double bytes) const {
        const int near = group_.num_near - 1;
        const int far = group_.size - group_.num_near;
        const double latency_s =
            near * hardware_.within_node.latency_s + far * hardware_.between_nodes.latency_s;
        const Moved all = to_all(bytes);
        const double seconds =
            latency_s + all.near_bytes / near_bandwidth() + all.far_bytes / far_bandwidth();
        return {.seconds = seconds, .busy_s = hardware_.nccl ? 0.0 : latency_s};
    }

    void charge(const char* what, Cost cost, double sent_bytes) {
        if (group_.size == 1) {
            return;
        }
        sent_bytes_ += sent_bytes;
        backend_.communicate(what, cost.seconds, cost.busy_s, sent_bytes);
    }

    DryBackend& backend_;
    const DeviceSpeed& speed_;
    const Hardware& hardware_;
    Group group_;
    DryWorld world_;
    size_t num_splits_ = 0;
    double sent_bytes_ = 0.0;
};

}  // namespace

std::unique_ptr<Communicator> make_dry_communicator(DryBackend& backend, const DeviceSpeed& speed,
                                                    const DryWorld& world) {
    std::vector<int> ranks;
    for (int rank = 0; rank < world.size; ++rank) {
        ranks.push_back(rank);
    }
    return std::make_unique<DryCommunicator>(backend, speed,
                                             Group(ranks, world.rank, world.ranks_per_node), world);
}

}  // namespace lathe
