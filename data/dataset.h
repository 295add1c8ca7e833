// A prepared data folder: `dataset.json`, `tokenizer.json` and the token shards of its splits.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/token_shard.h"

namespace lathe {

/// One split ("train" or "validation") as `dataset.json` describes it.
struct SplitInfo {
    int64_t num_documents = 0;
    int64_t num_bytes = 0;   ///< of text, end-of-text tokens not counted
    int64_t num_tokens = 0;  ///< end-of-text tokens included
    std::vector<ShardInfo> shards;
};

/// The content of `dataset.json`.
struct DatasetInfo {
    int64_t vocabulary_size = 0;
    std::string tokenizer_fingerprint;  ///< Tokenizer::fingerprint() in hexadecimal
    /// Cross-entropy, in nats a token, of the validation tokens under the unigram distribution of
    /// the training tokens with one added to each count: what a model that ignores all context
    /// reaches. 0 without validation tokens.
    double unigram_entropy = 0.0;
    std::string
        recipe;  ///< what prepare() made it of, as JSON: tells finished work from other work
    std::map<std::string, SplitInfo> splits;
};

/// Reads `folder`/dataset.json. Throws UsageError where it is missing or not what
/// write_dataset_info writes.
DatasetInfo read_dataset_info(const std::filesystem::path& folder);
void write_dataset_info(const std::filesystem::path& folder, const DatasetInfo& info);

/// All shards of one split as one sequence of tokens. Immutable: any thread may copy from it.
class TokenDataset {
  public:
    /// Opens `split` ("train", "validation") of `folder`. Throws UsageError where the folder, the
    /// split or a shard is missing, empty or damaged, or a shard disagrees with dataset.json.
    TokenDataset(const std::filesystem::path& folder, std::string_view split);

    int64_t num_tokens() const { return starts_.back(); }
    int64_t num_bytes() const { return num_bytes_; }
    int64_t vocabulary_size() const { return vocabulary_size_; }
    const std::string& split() const { return split_; }
    const std::filesystem::path& folder() const { return folder_; }

    /// tokens[i] = token begin + i of the split, across shards. Throws UsageError on a stored token
    /// that is not below the vocabulary size, Error where the range is outside the split.
    void copy(int64_t begin, std::span<int32_t> tokens) const;
    /// A hash of tokens taken evenly from the whole split, cheap however large it is: splits of
    /// different text differ in it. Throws as copy does.
    uint64_t sample_fingerprint() const;

  private:
    std::filesystem::path folder_;
    std::string split_;
    int64_t vocabulary_size_ = 0;
    int64_t num_bytes_ = 0;
    std::vector<TokenShard> shards_;
    std::vector<int64_t> starts_;  ///< first token of each shard, then the total
};

}  // namespace lathe
