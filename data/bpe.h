// Byte-pair merges: one piece of text to token ids.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace lathe {

/// Tokens `left` and `right`, side by side, become `result`.
struct BpeMerge {
    int32_t left = 0;
    int32_t right = 0;
    int32_t result = 0;
};

/// An immutable table of merges, the earlier the more urgent.
class BpeMerges {
  public:
    /// `byte_ids[b]` is the token of the single byte b. Of equal pairs the last one counts, as in
    /// Hugging Face tokenizers.
    BpeMerges(const std::array<int32_t, 256>& byte_ids, std::span<const BpeMerge> merges);

    /// Appends the ids of `piece`: starting from single bytes, the pair of the most urgent merge
    /// (the leftmost of equals) is merged until none applies. O(n^2) steps on a few contiguous
    /// bytes for short pieces, O(n log n) for long ones.
    void encode(std::string_view piece, std::vector<int32_t>& ids) const;

  private:
    struct Entry {
        uint64_t pair;
        uint32_t rank;
        int32_t result;
    };

    /// The entry of (left, right), or one of rank kNoRank.
    const Entry& find(int32_t left, int32_t right) const;
    void encode_short(std::string_view piece, std::vector<int32_t>& ids) const;
    void encode_long(std::string_view piece, std::vector<int32_t>& ids) const;

    std::array<int32_t, 256> byte_ids_;
    std::vector<Entry> table_;  ///< open addressing, a power of two entries, at most half full
    int shift_ = 0;             ///< 64 - log2(table_.size())
};

}  // namespace lathe
