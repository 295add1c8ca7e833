// One collective as a rank calls it: what it is, and what a header tells the other ranks of it, so
// that ranks that call different things learn so at once.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "parallel/communicator.h"

namespace lathe {

enum class CollectiveKind : uint8_t {
    all_to_all,
    all_gather,
    all_reduce,
    reduce_scatter,
    broadcast,
    all_gather_bytes,
    barrier,
    split
};

/// A rank's call of a collective.
struct CollectiveCall {
    CollectiveKind kind = CollectiveKind::barrier;
    int64_t sequence = 0;  ///< counted from 1 in each group
    DType dtype = DType::f32;
    int root = -1;  ///< group rank, or -1
    CollectiveLabel label;

    /// `all_gather number 3 ("parameters of blocks.0", step 7)`
    std::string text() const;
};

/// What a call moves between this rank and one other.
struct Traffic {
    /// Any size: the other side's header says it.
    static constexpr int64_t kAnySize = -1;

    const void* send = nullptr;  ///< nullptr: told to the other side, but not sent as a message
    int64_t send_bytes = 0;
    void* receive = nullptr;
    int64_t receive_bytes = 0;
};

/// What ranks tell each other ahead of each collective's data.
struct CollectiveHeader {
    int64_t sequence = 0;
    int64_t step = 0;
    int64_t send_bytes = 0;
    int64_t receive_bytes = 0;
    uint64_t label_hash = 0;
    int32_t root = -1;
    CollectiveKind kind = CollectiveKind::barrier;
    DType dtype = DType::f32;
    std::array<char, 98> label{};  ///< cut where it is longer

    CollectiveHeader() = default;
    CollectiveHeader(const CollectiveCall& call, const Traffic& traffic);

    /// Whether this header and one that its receiver sent back belong to the same call.
    bool agrees_with(const CollectiveHeader& other) const;
    /// The call, with its bytes from and to the other rank.
    std::string text() const;
};

/// "rank 3", "ranks 1 and 2", "ranks 0, 1 and 5"
std::string ranks_text(std::span<const int> ranks);

}  // namespace lathe
