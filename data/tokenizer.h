// Byte-level byte-pair encoding (Sennrich et al., arXiv 1508.07909; Radford et al., 2019) that
// reads and writes the Hugging Face `tokenizer.json` format.
//
// Encoding is lossless on any bytes: decode(encode(x)) == x, also where x is not UTF-8. Runs of
// invalid bytes are pieces of their own, the valid text between them is split by the tokenizer's
// regular expressions, and every byte has a token.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// What text that spells a special token ("<|endoftext|>") becomes.
enum class SpecialText {
    /// Ordinary text, so that no document can end itself: right for training data. The ids of
    /// tiktoken's `encode_ordinary`.
    kOrdinary,
    /// The special token's id: the ids of Hugging Face's `encode(text, add_special_tokens=False)`.
    kTokens,
};

/// An immutable tokenizer; copies share their tables. All members may be called from any thread.
class Tokenizer {
  public:
    /// Reads a Hugging Face tokenizer.json. Throws UsageError, naming the file and the problem,
    /// where it is missing, truncated, inconsistent, or uses what Lathe does not implement
    /// (anything but byte-level BPE without normalizer).
    static Tokenizer load(const std::filesystem::path& path);
    /// The same from text already in memory; `name` stands for the file in messages.
    static Tokenizer from_json(std::string json, std::string_view name);

    /// Writes the JSON that this tokenizer was made of: atomically, and byte for byte.
    void save(const std::filesystem::path& path) const;

    /// Token ids of `text`. Nothing is added before or after.
    std::vector<int32_t> encode(std::string_view text,
                                SpecialText special = SpecialText::kOrdinary) const;
    /// Token ids of each text, the texts divided over `num_threads` threads (0: all cores).
    std::vector<std::vector<int32_t>> encode_batch(
        std::span<const std::string_view> texts, int num_threads,
        SpecialText special = SpecialText::kOrdinary) const;
    /// encode(text) by several threads, with the same ids.
    std::vector<int32_t> encode_parallel(std::string_view text, int num_threads,
                                         SpecialText special = SpecialText::kOrdinary) const;
    /// Cuts `text` into parts of roughly `part_bytes` whose ids, concatenated, are encode(text).
    /// One part where this pre-tokenizer is not known to allow cuts.
    std::vector<std::string_view> cut(std::string_view text, int64_t part_bytes) const;

    /// The bytes that `ids` stand for; special tokens give their text. Throws Error on an id
    /// without a token.
    std::string decode(std::span<const int32_t> ids) const;

    /// One more than the largest id.
    int64_t vocabulary_size() const;
    /// The id that ends a document: "<|endoftext|>", "<|end_of_text|>" or "</s>", the first that is
    /// there.
    std::optional<int32_t> find_end_of_text() const;
    /// The same; throws UsageError where there is none.
    int32_t end_of_text() const;
    /// The id of a special (or other added) token by its text.
    std::optional<int32_t> added_token(std::string_view text) const;
    bool is_special(int32_t id) const;
    /// The bytes a token stands for (a special token: its text). Empty for an unused id.
    std::string_view token_bytes(int32_t id) const;
    /// How many bytes of text each token stands for, by id: 0 for special tokens. What bits per
    /// byte divides by.
    std::vector<int32_t> text_bytes() const;

    /// A hash of everything that determines ids, the same however the JSON is formatted.
    uint64_t fingerprint() const;

  private:
    struct Impl;
    explicit Tokenizer(std::shared_ptr<const Impl> impl);

    std::shared_ptr<const Impl> impl_;
};

}  // namespace lathe
