// What each collective moves between pairs of ranks, whatever moves it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tensor.h"
#include "parallel/collective.h"

namespace lathe {

/// send[r] to rank r, receive[r] from it.
std::vector<Traffic> all_to_all_traffic(std::span<const Tensor> send,
                                        std::span<const Tensor> receive);
/// One's own part goes to all, and theirs come.
std::vector<Traffic> gather_traffic(int rank, std::span<const Tensor> parts);
std::vector<Traffic> broadcast_traffic(int rank, int size, const Tensor& tensor, int root);
/// parts[r] to rank r, and as much as one's own part from each.
std::vector<Traffic> scatter_traffic(int rank, std::span<const Tensor> parts);

int64_t bytes_to_others(std::span<const Traffic> traffic, int rank);

/// The type of whatever moves; f32 where nothing does.
DType dtype_in(std::span<const Tensor> tensors);
DType dtype_in(std::span<const Tensor> send, std::span<const Tensor> receive);
/// Throw Error for arguments that no implementation takes.
void check_own_entries(const Tensor& send, const Tensor& receive, const CollectiveLabel& label);
void check_root(int root, int size, const CollectiveLabel& label);
void check_summable(DType dtype);

/// Part `rank` of a tensor that all ranks sum together, as even as can be.
Tensor part_of_sum(const Tensor& tensor, int rank, int size);
/// Bytes that the sum of a tensor over ranks takes from this one at least: each part to its owner,
/// then one's own to all.
int64_t bytes_of_sum(const Tensor& tensor, int rank, int size);

}  // namespace lathe
