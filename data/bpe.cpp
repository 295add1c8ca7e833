#include "data/bpe.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <queue>

namespace lathe {
namespace {

constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();
constexpr uint64_t kNoPair = std::numeric_limits<uint64_t>::max();
constexpr size_t kShortPiece = 64;

uint64_t pair_key(int32_t left, int32_t right) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) |
           static_cast<uint32_t>(right);
}

/// Multiplicative hashing: the high bits of the product depend on all bits of the key.
size_t slot_of(uint64_t key, int shift) {
    return static_cast<size_t>(((key ^ (key >> 29)) * 0x9E3779B97F4A7C15) >> shift);
}

}  // namespace

BpeMerges::BpeMerges(const std::array<int32_t, 256>& byte_ids, std::span<const BpeMerge> merges)
    : byte_ids_(byte_ids) {
    const size_t size = std::bit_ceil(std::max<size_t>(2, merges.size() * 2 + 2));
    shift_ = 64 - std::countr_zero(size);
    table_.assign(size, Entry{kNoPair, kNoRank, -1});
    for (size_t rank = 0; rank < merges.size(); ++rank) {
        const uint64_t key = pair_key(merges[rank].left, merges[rank].right);
        size_t slot = slot_of(key, shift_);
        while (table_[slot].pair != kNoPair && table_[slot].pair != key) {
            slot = (slot + 1) & (size - 1);
        }
        table_[slot] = {key, static_cast<uint32_t>(rank), merges[rank].result};
    }
}

const BpeMerges::Entry& BpeMerges::find(int32_t left, int32_t right) const {
    const uint64_t key = pair_key(left, right);
    size_t slot = slot_of(key, shift_);
    // An empty slot's rank is kNoRank: the answer for a pair that is not there.
    while (table_[slot].pair != key && table_[slot].pair != kNoPair) {
        slot = (slot + 1) & (table_.size() - 1);
    }
    return table_[slot];
}

void BpeMerges::encode(std::string_view piece, std::vector<int32_t>& ids) const {
    if (piece.size() <= kShortPiece) {
        encode_short(piece, ids);
    } else {
        encode_long(piece, ids);
    }
}

void BpeMerges::encode_short(std::string_view piece, std::vector<int32_t>& ids) const {
    // Filled as far as the piece goes; a piece is short, and clearing them would show.
    // NOLINTBEGIN(cppcoreguidelines-pro-type-member-init)
    std::array<int32_t, kShortPiece> tokens;
    std::array<uint32_t, kShortPiece> ranks;   // of the pair (i, i + 1)
    std::array<int32_t, kShortPiece> results;  // what that pair would become
    // NOLINTEND(cppcoreguidelines-pro-type-member-init)
    size_t count = piece.size();
    for (size_t i = 0; i < count; ++i) tokens[i] = byte_ids_[static_cast<uint8_t>(piece[i])];
    const auto look_up = [&](size_t i) {
        const Entry& entry = find(tokens[i], tokens[i + 1]);
        ranks[i] = entry.rank;
        results[i] = entry.result;
    };
    for (size_t i = 0; i + 1 < count; ++i) look_up(i);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; ++i) {
            if (ranks[i] < ranks[best]) best = i;
        }
        if (ranks[best] == kNoRank) break;
        tokens[best] = results[best];
        for (size_t i = best + 1; i + 1 < count; ++i) {
            tokens[i] = tokens[i + 1];
            ranks[i] = ranks[i + 1];
            results[i] = results[i + 1];
        }
        --count;
        if (best > 0) look_up(best - 1);
        if (best + 1 < count) look_up(best);
    }
    ids.insert(ids.end(), tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(count));
}

void BpeMerges::encode_long(std::string_view piece, std::vector<int32_t>& ids) const {
    struct Symbol {
        int32_t token;
        int64_t previous;
        int64_t next;  // -1: none
    };
    struct Candidate {
        uint32_t rank;
        int64_t position;
        int32_t result;
        bool operator>(const Candidate& other) const {
            return rank != other.rank ? rank > other.rank : position > other.position;
        }
    };
    const auto count = static_cast<int64_t>(piece.size());
    std::vector<Symbol> symbols(piece.size());
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    const auto symbol = [&](int64_t i) -> Symbol& { return symbols[static_cast<size_t>(i)]; };
    const auto consider = [&](int64_t i) {
        if (i < 0 || symbol(i).next < 0) return;
        const Entry& entry = find(symbol(i).token, symbol(symbol(i).next).token);
        if (entry.rank != kNoRank) queue.push({entry.rank, i, entry.result});
    };
    for (int64_t i = 0; i < count; ++i) {
        const auto byte = static_cast<uint8_t>(piece[static_cast<size_t>(i)]);
        symbol(i) = {byte_ids_[byte], i - 1, i + 1 < count ? i + 1 : -1};
    }
    for (int64_t i = 0; i < count; ++i) consider(i);
    while (!queue.empty()) {
        const Candidate top = queue.top();
        queue.pop();
        Symbol& left = symbol(top.position);
        // Stale where the left token is gone (-1) or the pair has changed meanwhile.
        if (left.token < 0 || left.next < 0) continue;
        Symbol& right = symbol(left.next);
        if (find(left.token, right.token).rank != top.rank) continue;
        left.token = top.result;
        right.token = -1;
        left.next = right.next;
        if (left.next >= 0) symbol(left.next).previous = top.position;
        consider(left.previous);
        consider(top.position);
    }
    for (int64_t i = 0; i >= 0 && i < count; i = symbol(i).next) ids.push_back(symbol(i).token);
}

}  // namespace lathe
