// Token shards in llm.c's layout: 256 int32 of header, then the tokens.
//   header[0] magic   20240520 (tokens uint16) or 20240801 (tokens uint32)
//   header[1] version 1 or 7
//   header[2] count   number of tokens
// The count is a signed 32-bit number, so a shard holds at most 2^31 - 1 tokens (4 or 8 GiB) and
// larger sets are several shards. All arithmetic on sizes is in 64 bits. Little-endian.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/files.h"

namespace lathe {

inline constexpr int64_t kShardHeaderBytes = 256 * 4;
inline constexpr int64_t kMaxShardTokens = std::numeric_limits<int32_t>::max();

/// Bytes of one stored token: 2 where every id below `vocabulary_size` fits in 16 bits, else 4.
int64_t shard_token_bytes(int64_t vocabulary_size);

/// One shard, memory-mapped.
class TokenShard {
  public:
    /// Maps and checks `path`. Throws UsageError where the header is not a shard's, the file is
    /// shorter or longer than the header says, or it holds no tokens.
    explicit TokenShard(const std::filesystem::path& path);

    int64_t num_tokens() const { return num_tokens_; }
    int64_t token_bytes() const { return token_bytes_; }
    const std::filesystem::path& path() const { return path_; }

    /// tokens[i] = token begin + i. Throws UsageError on a token that is not below
    /// `vocabulary_size`, Error where the range is outside the shard.
    void copy(int64_t begin, std::span<int32_t> tokens, int64_t vocabulary_size) const;

  private:
    std::filesystem::path path_;
    MappedFile file_;
    int64_t num_tokens_ = 0;
    int64_t token_bytes_ = 2;
};

/// A finished shard as the writer reports it.
struct ShardInfo {
    std::string name;
    int64_t num_tokens = 0;
};

/// Streams tokens into `folder`/`split`-00000.bin, -00001.bin and so on. Each shard is written
/// under a temporary name, synced and renamed when it is full or at finish(); a writer destroyed
/// before finish() leaves its last shard out.
class TokenShardWriter {
  public:
    /// `tokens_per_shard` in 1..kMaxShardTokens.
    TokenShardWriter(std::filesystem::path folder, std::string split, int64_t vocabulary_size,
                     int64_t tokens_per_shard);

    /// Throws Error on a token outside the vocabulary, UsageError where the disk is full.
    void append(std::span<const int32_t> tokens);
    /// Completes the last shard and returns them all; none where nothing was appended.
    std::vector<ShardInfo> finish();

    int64_t num_tokens() const { return num_tokens_; }

  private:
    void open_shard();
    void flush();
    void close_shard();

    std::filesystem::path folder_;
    std::string split_;
    int64_t vocabulary_size_;
    int64_t tokens_per_shard_;
    int64_t token_bytes_;
    int64_t num_tokens_ = 0;
    int64_t shard_tokens_ = 0;
    std::unique_ptr<FileWriter> file_;
    std::vector<ShardInfo> shards_;
    std::string buffer_;  ///< packed tokens, not yet written
};

}  // namespace lathe
