#include "parallel/collective.h"

#include <algorithm>

namespace lathe {
namespace {

std::string_view name_of(CollectiveKind kind) {
    constexpr std::array<std::string_view, 8> kNames = {
        "all_to_all", "all_gather",       "all_reduce", "reduce_scatter",
        "broadcast",  "all_gather_bytes", "barrier",    "split"};
    const auto index = static_cast<size_t>(kind);
    return index < kNames.size() ? kNames[index] : "an unknown collective";
}

/// FNV-1a, 64 bits: labels longer than a header carries are compared by it.
uint64_t hash_of(std::string_view text) {
    uint64_t hash = 0xcbf29ce484222325U;
    for (const char c : text) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    }
    return hash;
}

std::string call_text(CollectiveKind kind, int64_t sequence, std::string_view tensor,
                      int64_t step) {
    return fmt::format("{} number {} (\"{}\", step {})", name_of(kind), sequence, tensor, step);
}

bool sizes_agree(int64_t sent, int64_t expected) {
    return expected == Traffic::kAnySize || sent == expected;
}

std::string bytes_text(int64_t bytes) {
    return bytes == Traffic::kAnySize ? "any number of" : fmt::format("{}", bytes);
}

}  // namespace

std::string CollectiveCall::text() const {
    return call_text(kind, sequence, label.tensor, label.step);
}

CollectiveHeader::CollectiveHeader(const CollectiveCall& call, const Traffic& traffic)
    : sequence(call.sequence),
      step(call.label.step),
      send_bytes(traffic.send_bytes),
      receive_bytes(traffic.receive_bytes),
      label_hash(hash_of(call.label.tensor)),
      root(call.root),
      kind(call.kind),
      dtype(call.dtype) {
    std::copy_n(call.label.tensor.begin(), std::min(call.label.tensor.size(), label.size() - 1),
                label.begin());
}

bool CollectiveHeader::agrees_with(const CollectiveHeader& other) const {
    const bool moves = send_bytes > 0 || receive_bytes > 0;
    return kind == other.kind && sequence == other.sequence && step == other.step &&
           root == other.root && label_hash == other.label_hash &&
           (!moves || dtype == other.dtype) && sizes_agree(send_bytes, other.receive_bytes) &&
           sizes_agree(other.send_bytes, receive_bytes);
}

std::string CollectiveHeader::text() const {
    std::string text = call_text(kind, sequence, label.data(), step);
    text.pop_back();
    if (root >= 0) {
        text += fmt::format(", root {}", root);
    }
    if (send_bytes != 0 || receive_bytes != 0) {
        text += fmt::format(", {}, {} bytes to it and {} from it", lathe::name_of(dtype),
                            bytes_text(send_bytes), bytes_text(receive_bytes));
    }
    return text + ")";
}

std::string ranks_text(std::span<const int> ranks) {
    std::string text = ranks.size() == 1 ? "rank " : "ranks ";
    for (size_t i = 0; i < ranks.size(); ++i) {
        if (i > 0) {
            text += i + 1 == ranks.size() ? " and " : ", ";
        }
        text += std::to_string(ranks[i]);
    }
    return text;
}

}  // namespace lathe
