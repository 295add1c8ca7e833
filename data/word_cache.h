// Remembers the ids of short pieces: most pieces of a text are few different words.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace lathe {

/// A fixed-size cache from pieces of at most 31 bytes to at most 8 ids. A new piece takes the place
/// of whatever had its slot, so memory is bounded and nothing is ever rehashed. One cache line an
/// entry.
class WordCache {
  public:
    static constexpr size_t kMaxBytes = 31;
    static constexpr size_t kMaxIds = 8;

    /// A piece padded with zeros to 32 bytes, its length in the last one.
    using Key = std::array<uint64_t, 4>;

    struct alignas(64) Entry {
        Key key{};                           // all zeros: empty, since no piece has length zero
        std::array<int32_t, kMaxIds> ids{};  // -1 after the last
    };

    WordCache() : entries_(kNumEntries) {}

    /// The key of a piece of 1..kMaxBytes bytes. `readable` says how many bytes may be read from
    /// its start: from 32 on the piece is loaded whole and cut by masks, which is much faster.
    static Key key_of(std::string_view piece, size_t readable) {
        Key key{};
        if (readable >= sizeof(Key)) {
            std::memcpy(key.data(), piece.data(), sizeof(Key));
            for (size_t word = 0; word < key.size(); ++word) {
                key[word] &= kMasks[piece.size()][word];
            }
        } else {
            std::memcpy(key.data(), piece.data(), piece.size());
        }
        key[3] |= static_cast<uint64_t>(piece.size()) << 56;
        return key;
    }

    /// The slot of `key`: holds the key itself, another one, or none.
    Entry& slot(const Key& key) {
        uint64_t hash = (key[0] ^ (key[0] >> 32)) * 0x9E3779B97F4A7C15;
        hash = (hash ^ key[1] ^ (hash >> 29)) * 0xBF58476D1CE4E5B9;
        hash = (hash ^ key[2] ^ (hash >> 32)) * 0x94D049BB133111EB;
        hash = (hash ^ key[3] ^ (hash >> 29)) * 0x9E3779B97F4A7C15;
        return entries_[hash >> (64 - kLogEntries)];
    }

  private:
    static constexpr int kLogEntries = 15;
    static constexpr size_t kNumEntries = size_t{1} << kLogEntries;
    static constexpr auto kMasks = [] {
        std::array<Key, kMaxBytes + 1> masks{};
        for (size_t length = 0; length <= kMaxBytes; ++length) {
            for (size_t byte = 0; byte < length; ++byte) {
                masks[length][byte / 8] |= uint64_t{0xFF} << (byte % 8 * 8);
            }
        }
        return masks;
    }();

    std::vector<Entry> entries_;
};

}  // namespace lathe
