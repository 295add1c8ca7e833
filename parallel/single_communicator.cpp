#include "parallel/single_communicator.h"

#include <fmt/core.h>

#include <cstdlib>

namespace lathe {
namespace {

class SingleCommunicator final : public Communicator {
  public:
    int rank() const override { return 0; }
    int size() const override { return 1; }
    int64_t sent_bytes() const override { return 0; }
    void all_to_all(std::span<const Tensor>, std::span<const Tensor>,
                    const CollectiveLabel&) override {}
    void all_gather(std::span<const Tensor>, const CollectiveLabel&) override {}
    void all_reduce(const Tensor&, const CollectiveLabel&) override {}
    void reduce_scatter(std::span<const Tensor>, const CollectiveLabel&) override {}
    void broadcast(const Tensor&, int, const CollectiveLabel&) override {}
    std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine,
                                                         const CollectiveLabel&) override {
        return {{mine.begin(), mine.end()}};
    }
    void barrier(const CollectiveLabel&) override {}
    std::unique_ptr<Communicator> split(int, int) override { return make_single_communicator(); }
    void abort(const std::string& reason, int exit_code) noexcept override {
        fmt::print(stderr, "lathe: {}\n", reason);
        std::_Exit(exit_code);
    }
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() {
    return std::make_unique<SingleCommunicator>();
}

}  // namespace lathe
