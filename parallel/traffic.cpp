#include "parallel/traffic.h"

#include <algorithm>

namespace lathe {

std::vector<Traffic> all_to_all_traffic(std::span<const Tensor> send,
                                        std::span<const Tensor> receive) {
    std::vector<Traffic> traffic;
    for (size_t peer = 0; peer < send.size(); ++peer) {
        traffic.push_back({.send = send[peer].data(),
                           .send_bytes = send[peer].bytes(),
                           .receive = receive[peer].data(),
                           .receive_bytes = receive[peer].bytes()});
    }
    return traffic;
}

std::vector<Traffic> gather_traffic(int rank, std::span<const Tensor> parts) {
    const std::vector<Tensor> mine(parts.size(), parts[static_cast<size_t>(rank)]);
    return all_to_all_traffic(mine, parts);
}

std::vector<Traffic> broadcast_traffic(int rank, int size, const Tensor& tensor, int root) {
    std::vector<Traffic> traffic(static_cast<size_t>(size));
    if (rank == root) {
        std::fill(traffic.begin(), traffic.end(),
                  Traffic{.send = tensor.data(), .send_bytes = tensor.bytes()});
    } else {
        traffic[static_cast<size_t>(root)] = {.receive = tensor.data(),
                                              .receive_bytes = tensor.bytes()};
    }
    return traffic;
}

std::vector<Traffic> scatter_traffic(int rank, std::span<const Tensor> parts) {
    const std::vector<Tensor> mine(parts.size(), parts[static_cast<size_t>(rank)]);
    return all_to_all_traffic(parts, mine);
}

int64_t bytes_to_others(std::span<const Traffic> traffic, int rank) {
    int64_t bytes = -traffic[static_cast<size_t>(rank)].send_bytes;
    for (const Traffic& pair : traffic) {
        bytes += pair.send_bytes;
    }
    return bytes;
}

DType dtype_in(std::span<const Tensor> tensors) {
    const auto moves = std::find_if(tensors.begin(), tensors.end(),
                                    [](const Tensor& tensor) { return tensor.size() > 0; });
    return moves == tensors.end() ? DType::f32 : moves->dtype();
}

DType dtype_in(std::span<const Tensor> send, std::span<const Tensor> receive) {
    const bool sends = std::any_of(send.begin(), send.end(),
                                   [](const Tensor& tensor) { return tensor.size() > 0; });
    return dtype_in(sends ? send : receive);
}

void check_own_entries(const Tensor& send, const Tensor& receive, const CollectiveLabel& label) {
    LATHE_CHECK(send.bytes() == receive.bytes(),
                "all_to_all of {}: {} bytes to oneself, {} from oneself", label.tensor,
                send.bytes(), receive.bytes());
}

void check_root(int root, int size, const CollectiveLabel& label) {
    LATHE_CHECK(root >= 0 && root < size, "broadcast of {}: root {} of {} ranks", label.tensor,
                root, size);
}

void check_summable(DType dtype) {
    LATHE_CHECK(dtype != DType::i32, "a reduction sums f32, bf16 or f64, not {}", name_of(dtype));
}

Tensor part_of_sum(const Tensor& tensor, int rank, int size) {
    return tensor.flat().slice(tensor.size() * rank / size, tensor.size() * (rank + 1) / size);
}

int64_t bytes_of_sum(const Tensor& tensor, int rank, int size) {
    const int64_t own = part_of_sum(tensor, rank, size).bytes();
    return tensor.bytes() - own + (size - 1) * own;
}

}  // namespace lathe
