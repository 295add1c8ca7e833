#include "parallel/nccl_communicator.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <map>
#include <utility>

#include "kernels/cuda/cuda_backend_impl.h"
#include "parallel/message_communicator.h"
#include "parallel/nccl_check.h"
#include "parallel/nccl_group.h"
#include "parallel/nccl_watch.h"
#include "parallel/shared_failure.h"
#include "parallel/traffic.h"

namespace lathe {
namespace {

ncclDataType_t nccl_type(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return ncclFloat32;
        case DType::bf16:
            return ncclBfloat16;
        case DType::f64:
            return ncclFloat64;
        case DType::i32:
            return ncclInt32;
    }
    fail("NCCL moves no {}", name_of(dtype));
}

size_t count_of(const Tensor& tensor) { return static_cast<size_t>(tensor.size()); }

/// Whether the parts lie one behind the other and have the same size: what one call of NCCL takes.
bool are_even(std::span<const Tensor> parts) {
    const Tensor& first = parts.front();
    for (size_t i = 0; i < parts.size(); ++i) {
        const std::byte* begin =
            static_cast<const std::byte*>(first.data()) + static_cast<int64_t>(i) * first.bytes();
        if (parts[i].size() != first.size() || parts[i].data() != begin) {
            return false;
        }
    }
    return true;
}

/// Calls that NCCL takes as one. None of `calls` may throw.
template <typename Calls>
ncclResult_t grouped(const Calls& calls) {
    ncclResult_t status = ncclGroupStart();
    if (status != ncclSuccess) {
        return status;
    }
    status = calls();
    const ncclResult_t end = ncclGroupEnd();
    return status == ncclSuccess || status == ncclInProgress ? end : status;
}

class NcclCommunicator final : public Communicator {
  public:
    NcclCommunicator(cuda::CudaBackend& backend, std::unique_ptr<MessageCommunicator> host,
                     std::shared_ptr<NcclWatch> watch, bool is_world)
        : backend_(backend),
          host_(std::move(host)),
          watch_(std::move(watch)),
          is_world_(is_world),
          members_{.exchange = host_->exchange(), .group = std::make_shared<NcclGroup>()} {
        watch_->add(members_.group);
        if (is_world_) {
            backend_.check_after_waits_by([checked = watch_] { checked->check(); });
        }
        if (size() > 1) {
            connect();
        }
    }
    ~NcclCommunicator() override {
        watch_->remove(members_.group);
        if (is_world_) {
            backend_.check_after_waits_by([] {});
        }
        // While something fails the others may never come to finish with this one.
        if (std::uncaught_exceptions() > 0 || watch_->failed()) {
            members_.group->abort();
        } else if (size() > 1) {
            members_.group->finish();
        }
    }
    NcclCommunicator(const NcclCommunicator&) = delete;
    NcclCommunicator& operator=(const NcclCommunicator&) = delete;

    int rank() const override { return host_->rank(); }
    int size() const override { return host_->size(); }
    int64_t sent_bytes() const override { return host_->sent_bytes(); }

    void all_to_all(std::span<const Tensor> send, std::span<const Tensor> receive,
                    const CollectiveLabel& label) override;
    void all_gather(std::span<const Tensor> parts, const CollectiveLabel& label) override;
    void all_reduce(const Tensor& tensor, const CollectiveLabel& label) override;
    void reduce_scatter(std::span<const Tensor> parts, const CollectiveLabel& label) override;
    void broadcast(const Tensor& tensor, int root, const CollectiveLabel& label) override;

    std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine,
                                                         const CollectiveLabel& label) override {
        watch_->check();
        return host_->all_gather_bytes(mine, label);
    }
    void barrier(const CollectiveLabel& label) override {
        watch_->check();
        host_->barrier(label);
    }
    std::unique_ptr<Communicator> split(int color, int key) override {
        watch_->check();
        return std::make_unique<NcclCommunicator>(backend_, host_->subgroup(color, key), watch_,
                                                  false);
    }
    void abort(const std::string& reason, int exit_code) noexcept override {
        host_->abort(reason, exit_code);
    }

  private:
    void connect();
    void run(const CollectiveCall& call, const std::function<ncclResult_t(ncclComm_t)>& issue) {
        if (size() > 1) {
            watch_->run(call, members_, stream(), [&] { members_.group->run(issue); });
        }
    }
    cudaStream_t stream() const { return backend_.stream(Stream::communication); }

    cuda::CudaBackend& backend_;
    std::unique_ptr<MessageCommunicator> host_;
    std::shared_ptr<NcclWatch> watch_;
    bool is_world_;
    NcclMembers members_;
};

/// The group's first rank makes the id by which NCCL finds them all.
void NcclCommunicator::connect() {
    ncclUniqueId id{};
    std::span<const std::byte> mine;
    if (rank() == 0) {
        NCCL_CHECK(ncclGetUniqueId(&id));
        mine = std::as_bytes(std::span(&id, 1));
    }
    const CollectiveLabel label{.tensor = "connecting the GPUs", .step = 0};
    const auto all = host_->all_gather_bytes(mine, label);
    LATHE_CHECK(all[0].size() == sizeof(id), "the id of NCCL has {} bytes", all[0].size());
    std::memcpy(&id, all[0].data(), sizeof(id));
    const CollectiveCall call =
        host_->announce(CollectiveKind::barrier, std::vector<Traffic>(static_cast<size_t>(size())),
                        0, label, DType::f32);
    watch_->run(call, members_, stream(), [&] { members_.group->join(rank(), size(), id); });
    host_->barrier(label);  // none leaves, however soon, before all have come
}

void NcclCommunicator::all_to_all(std::span<const Tensor> send, std::span<const Tensor> receive,
                                  const CollectiveLabel& label) {
    host_->check_parts(send, "all_to_all");
    host_->check_parts(receive, "all_to_all");
    const auto me = static_cast<size_t>(rank());
    check_own_entries(send[me], receive[me], label);
    const std::vector<Traffic> traffic = all_to_all_traffic(send, receive);
    const CollectiveCall call =
        host_->announce(CollectiveKind::all_to_all, traffic, bytes_to_others(traffic, rank()),
                        label, dtype_in(send, receive));
    if (send[me].size() > 0) {
        backend_.copy(receive[me].flat(), send[me].flat(), Stream::communication);
    }
    run(call, [&](ncclComm_t comm) {
        return grouped([&] {
            ncclResult_t status = ncclSuccess;
            for (size_t peer = 0; peer < traffic.size() && status == ncclSuccess; ++peer) {
                const Traffic& pair = traffic[peer];
                const int to = static_cast<int>(peer);
                if (peer != me && pair.send_bytes > 0) {
                    status = ncclSend(pair.send, static_cast<size_t>(pair.send_bytes), ncclUint8,
                                      to, comm, stream());
                }
                if (peer != me && pair.receive_bytes > 0 && status == ncclSuccess) {
                    status = ncclRecv(pair.receive, static_cast<size_t>(pair.receive_bytes),
                                      ncclUint8, to, comm, stream());
                }
            }
            return status;
        });
    });
}

void NcclCommunicator::all_gather(std::span<const Tensor> parts, const CollectiveLabel& label) {
    host_->check_parts(parts, "all_gather");
    const std::vector<Traffic> traffic = gather_traffic(rank(), parts);
    const CollectiveCall call =
        host_->announce(CollectiveKind::all_gather, traffic, bytes_to_others(traffic, rank()),
                        label, dtype_in(parts));
    const Tensor& mine = parts[static_cast<size_t>(rank())];
    run(call, [&](ncclComm_t comm) {
        if (are_even(parts)) {
            return mine.size() == 0 ? ncclSuccess
                                    : ncclAllGather(mine.data(), parts[0].data(), count_of(mine),
                                                    nccl_type(mine.dtype()), comm, stream());
        }
        return grouped([&] {
            ncclResult_t status = ncclSuccess;
            for (size_t root = 0; root < parts.size() && status == ncclSuccess; ++root) {
                const Tensor& part = parts[root];
                if (part.size() > 0) {
                    status = ncclBroadcast(part.data(), part.data(), count_of(part),
                                           nccl_type(part.dtype()), static_cast<int>(root), comm,
                                           stream());
                }
            }
            return status;
        });
    });
}

void NcclCommunicator::all_reduce(const Tensor& tensor, const CollectiveLabel& label) {
    check_summable(tensor.dtype());
    const Traffic whole{.send_bytes = tensor.bytes(), .receive_bytes = tensor.bytes()};
    const CollectiveCall call = host_->announce(
        CollectiveKind::all_reduce, std::vector<Traffic>(static_cast<size_t>(size()), whole),
        bytes_of_sum(tensor, rank(), size()), label, tensor.dtype());
    run(call, [&](ncclComm_t comm) {
        return tensor.size() == 0
                   ? ncclSuccess
                   : ncclAllReduce(tensor.data(), tensor.data(), count_of(tensor),
                                   nccl_type(tensor.dtype()), ncclSum, comm, stream());
    });
}

void NcclCommunicator::reduce_scatter(std::span<const Tensor> parts, const CollectiveLabel& label) {
    host_->check_parts(parts, "reduce_scatter");
    const DType dtype = dtype_in(parts);
    check_summable(dtype);
    const std::vector<Traffic> traffic = scatter_traffic(rank(), parts);
    const CollectiveCall call = host_->announce(CollectiveKind::reduce_scatter, traffic,
                                                bytes_to_others(traffic, rank()), label, dtype);
    const Tensor& mine = parts[static_cast<size_t>(rank())];
    run(call, [&](ncclComm_t comm) {
        if (are_even(parts)) {
            return mine.size() == 0
                       ? ncclSuccess
                       : ncclReduceScatter(parts[0].data(), mine.data(), count_of(mine),
                                           nccl_type(dtype), ncclSum, comm, stream());
        }
        return grouped([&] {
            ncclResult_t status = ncclSuccess;
            for (size_t root = 0; root < parts.size() && status == ncclSuccess; ++root) {
                const Tensor& part = parts[root];
                if (part.size() > 0) {
                    status = ncclReduce(part.data(), part.data(), count_of(part), nccl_type(dtype),
                                        ncclSum, static_cast<int>(root), comm, stream());
                }
            }
            return status;
        });
    });
}

void NcclCommunicator::broadcast(const Tensor& tensor, int root, const CollectiveLabel& label) {
    check_root(root, size(), label);
    const std::vector<Traffic> traffic = broadcast_traffic(rank(), size(), tensor, root);
    const CollectiveCall call =
        host_->announce(CollectiveKind::broadcast, traffic, bytes_to_others(traffic, rank()), label,
                        tensor.dtype(), root);
    run(call, [&](ncclComm_t comm) {
        return tensor.size() == 0 ? ncclSuccess
                                  : ncclBroadcast(tensor.data(), tensor.data(), count_of(tensor),
                                                  nccl_type(tensor.dtype()), root, comm, stream());
    });
}

std::string text_of(const std::vector<std::byte>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// "2.28.9"
std::string version_text(int code) {
    return fmt::format("{}.{}.{}", code / 10000, code / 100 % 100, code % 100);
}

/// Throws UsageError where two ranks are on one GPU.
void check_own_gpus(MessageCommunicator& world, const std::string& gpu) {
    std::map<std::string, int> owners;
    const auto all = world.all_gather_bytes(std::as_bytes(std::span(gpu)),
                                            {.tensor = "the ranks' GPUs", .step = 0});
    for (size_t rank = 0; rank < all.size(); ++rank) {
        const auto [owner, is_new] = owners.emplace(text_of(all[rank]), static_cast<int>(rank));
        LATHE_CHECK_USAGE(is_new,
                          "ranks {} and {} share GPU {}: start one rank for each GPU, or look at "
                          "CUDA_VISIBLE_DEVICES",
                          owner->second, rank, owner->first);
    }
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Backend& backend,
                                                     std::unique_ptr<Transport> transport,
                                                     std::vector<int> world_ranks,
                                                     const std::string& host, double timeout_s) {
    auto& cuda_backend = dynamic_cast<cuda::CudaBackend&>(backend);
    const auto exchange =
        std::make_shared<Exchange>(std::move(transport), std::move(world_ranks), timeout_s);
    const auto watch = std::make_shared<NcclWatch>(
        cuda_backend.index(), timeout_s, [exchange](const std::string& reason) {
            exchange->transport().abort(
                exchange->world_ranks()[static_cast<size_t>(exchange->rank())], reason, 1);
        });
    auto world =
        std::make_unique<MessageCommunicator>(std::make_shared<WatchedQueue>(watch), exchange);
    int version = 0;
    NCCL_CHECK(ncclGetVersion(&version));
    LATHE_CHECK_USAGE(version / 10000 == NCCL_VERSION_CODE / 10000 && version >= NCCL_VERSION_CODE,
                      "NCCL {} is loaded, and lathe was built with {}: put that one or a newer one "
                      "first in LD_LIBRARY_PATH, or build lathe again",
                      version_text(version), version_text(NCCL_VERSION_CODE));
    check_equal_on_all_ranks(*world, "the version of NCCL", version_text(version));
    check_own_gpus(*world, fmt::format("{} of {}", cuda_backend.bus_id(), host));
    return std::make_unique<NcclCommunicator>(cuda_backend, std::move(world), watch, true);
}

}  // namespace lathe
