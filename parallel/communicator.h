// Communicator: a group of ranks that move tensors between them. Every rank of the group calls the
// same operations in the same order.
//
// Data operations are asynchronous: they are issued to the backend's communication stream, in order
// with whatever else is issued there, and are done when an event recorded after them is. The
// tensors must live until then. Host operations (all_gather_bytes, barrier) wait for their result.
//
// A rank that dies, hangs, or calls another operation is an Error on the others within the timeout.
// Its text names the ranks that were waited for, the operation, its sequence number in this group,
// what it moved, and the step; the communicator then serves no more. The label must be the same on
// all ranks, which compare it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace lathe {

/// What a data operation is for, so that a failure can be told.
struct CollectiveLabel {
    std::string tensor;  ///< e.g. "gradients of blocks.3"
    int64_t step = 0;    ///< the optimizer step in progress, counted from 1
};

class Communicator {
  public:
    virtual ~Communicator() = default;

    virtual int rank() const = 0;
    virtual int size() const = 0;
    /// Bytes of tensors and host operations that this rank has sent to others so far, in this group
    /// and in those split from it.
    virtual int64_t sent_bytes() const = 0;

    /// send[r] goes to rank r and receive[r] comes from rank r; both have size() entries, and an
    /// absent or empty tensor moves nothing. send[r] here and receive[this rank] at r have equal
    /// type and size; one's own entry is copied.
    virtual void all_to_all(std::span<const Tensor> send, std::span<const Tensor> receive,
                            const CollectiveLabel& label) = 0;

    /// parts[r] is filled on every rank with what rank r has there; parts may be of different
    /// sizes, or empty.
    virtual void all_gather(std::span<const Tensor> parts, const CollectiveLabel& label) = 0;

    /// `tensor` (f32, bf16 or f64) becomes the sum over ranks, the same bits on all; the order of
    /// additions is the implementation's.
    virtual void all_reduce(const Tensor& tensor, const CollectiveLabel& label) = 0;
    /// parts[rank()] becomes the sum of parts[rank()] over ranks; the others are used up.
    virtual void reduce_scatter(std::span<const Tensor> parts, const CollectiveLabel& label) = 0;

    /// `tensor` of rank `root` on every rank.
    virtual void broadcast(const Tensor& tensor, int root, const CollectiveLabel& label) = 0;

    /// Every rank's bytes, by rank; sizes may differ.
    virtual std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine,
                                                                 const CollectiveLabel& label) = 0;
    virtual void barrier(const CollectiveLabel& label) = 0;

    /// Groups of equal `color`, ranked by `key`, then by rank here. Every rank calls it.
    virtual std::unique_ptr<Communicator> split(int color, int key) = 0;

    /// Ends the whole job, on every rank, as soon as possible; `reason` is told once. Callable at
    /// any time from any thread.
    virtual void abort(const std::string& reason, int exit_code) noexcept = 0;
};

}  // namespace lathe
