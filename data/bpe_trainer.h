// Trains a byte-level BPE tokenizer. The merges and ids are those of Hugging Face's BpeTrainer with
// ByteLevel's initial alphabet: special tokens first, then the 256 bytes in the order of their
// printable stand-ins, then one token a merge; the most frequent pair first, ties to the smaller
// ids.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/pretokenizer.h"
#include "data/tokenizer.h"

namespace lathe {

struct BpeTrainerOptions {
    int64_t vocabulary_size = 8192;  ///< special tokens and the 256 bytes included
    SplitPattern pattern = SplitPattern::kGpt2;
    std::vector<std::string> special_tokens = {"<|endoftext|>"};
    int num_threads = 0;  ///< 0: all cores. Never changes the result
};

/// Counts words of text as it comes, then learns merges. Memory grows with the number of different
/// words, not with the text.
class BpeTrainer {
  public:
    /// Throws UsageError where the vocabulary cannot hold the bytes and special tokens, or a
    /// special token is empty or given twice.
    explicit BpeTrainer(BpeTrainerOptions options);

    /// Adds documents; no word spans two of them.
    void add(std::span<const std::string_view> texts);

    /// Learns the merges. The vocabulary is smaller than asked for where the text has no more
    /// pairs.
    Tokenizer finish() const;

  private:
    /// Lets a map keyed by std::string be searched by std::string_view without a copy.
    struct Hash {
        using is_transparent = void;
        size_t operator()(std::string_view text) const {
            return std::hash<std::string_view>{}(text);
        }
    };
    using Counts = std::unordered_map<std::string, int64_t, Hash, std::equal_to<>>;

    BpeTrainerOptions options_;
    Pretokenizer pretokenizer_;
    Counts counts_;
};

/// The tokenizer of `texts`.
Tokenizer train_tokenizer(std::span<const std::string_view> texts, BpeTrainerOptions options);

}  // namespace lathe
