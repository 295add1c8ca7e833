#include "parallel/recorded_communicator.h"

#include <utility>

namespace lathe {
namespace {

class RecordedCommunicator final : public Communicator {
  public:
    RecordedCommunicator(Communicator& inner, Backend& backend)
        : inner_(inner), backend_(backend) {}
    RecordedCommunicator(std::unique_ptr<Communicator> owned, Backend& backend)
        : owned_(std::move(owned)), inner_(*owned_), backend_(backend) {}

    int rank() const override { return inner_.rank(); }
    int size() const override { return inner_.size(); }
    int64_t sent_bytes() const override { return inner_.sent_bytes(); }

    void all_to_all(std::span<const Tensor> send, std::span<const Tensor> receive,
                    const CollectiveLabel& label) override {
        double bytes = 0.0;
        for (size_t peer = 0; peer < send.size(); ++peer) {
            bytes += static_cast<double>(send[peer].bytes() + receive[peer].bytes());
        }
        collective("all_to_all", label, bytes, [&] { inner_.all_to_all(send, receive, label); });
    }
    void all_gather(std::span<const Tensor> parts, const CollectiveLabel& label) override {
        collective("all_gather", label, bytes_of(parts), [&] { inner_.all_gather(parts, label); });
    }
    void all_reduce(const Tensor& tensor, const CollectiveLabel& label) override {
        collective("all_reduce", label, bytes_of({&tensor, 1}),
                   [&] { inner_.all_reduce(tensor, label); });
    }
    void reduce_scatter(std::span<const Tensor> parts, const CollectiveLabel& label) override {
        collective("reduce_scatter", label, bytes_of(parts),
                   [&] { inner_.reduce_scatter(parts, label); });
    }
    void broadcast(const Tensor& tensor, int root, const CollectiveLabel& label) override {
        collective("broadcast", label, bytes_of({&tensor, 1}),
                   [&] { inner_.broadcast(tensor, root, label); });
    }
    std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine,
                                                         const CollectiveLabel& label) override {
        std::vector<std::vector<std::byte>> all;
        backend_.recorded_on_host(
            [&] { return work("all_gather_bytes", label, static_cast<double>(mine.size())); },
            [&] { all = inner_.all_gather_bytes(mine, label); });
        return all;
    }
    void barrier(const CollectiveLabel& label) override {
        backend_.recorded_on_host([&] { return work("barrier", label, 0.0); },
                                  [&] { inner_.barrier(label); });
    }
    std::unique_ptr<Communicator> split(int color, int key) override {
        return std::make_unique<RecordedCommunicator>(inner_.split(color, key), backend_);
    }
    void abort(const std::string& reason, int exit_code) noexcept override {
        inner_.abort(reason, exit_code);
    }

  private:
    static double bytes_of(std::span<const Tensor> tensors) {
        double bytes = 0.0;
        for (const Tensor& tensor : tensors) {
            bytes += static_cast<double>(tensor.bytes());
        }
        return bytes;
    }
    static Work work(const char* name, const CollectiveLabel& label, double bytes) {
        return {.name = name, .subject = label.tensor, .bytes = bytes};
    }
    template <typename Issue>
    void collective(const char* name, const CollectiveLabel& label, double bytes,
                    const Issue& issue) {
        backend_.recorded(
            Stream::communication, [&] { return work(name, label, bytes); }, issue);
    }

    std::unique_ptr<Communicator> owned_;  ///< null: somebody else's
    Communicator& inner_;
    Backend& backend_;
};

}  // namespace

std::unique_ptr<Communicator> make_recorded_communicator(Communicator& inner, Backend& backend) {
    return std::make_unique<RecordedCommunicator>(inner, backend);
}

}  // namespace lathe
