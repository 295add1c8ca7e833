#include "data/token_shard.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "kernels/error.h"

static_assert(std::endian::native == std::endian::little, "shards are little-endian");

namespace lathe {
namespace {

constexpr int64_t kHeaderInts = kShardHeaderBytes / 4;
/// Documents may be short: few large writes instead of many small ones.
constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr std::string_view kMend = "write it again with `lathe prepare` or copy it again";

struct ShardKind {
    int32_t magic;
    int32_t version;
    int64_t token_bytes;
};

constexpr std::array kKinds = {ShardKind{20240520, 1, 2}, ShardKind{20240801, 7, 4}};

std::string_view header_text(const std::array<int32_t, kHeaderInts>& header) {
    return {reinterpret_cast<const char*>(header.data()), sizeof(header)};
}

/// Reads `Stored` tokens at `source`; the largest of them.
template <typename Stored>
uint32_t widen(const char* source, std::span<int32_t> tokens) {
    uint32_t largest = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
        Stored value;
        std::memcpy(&value, source + i * sizeof(Stored), sizeof(Stored));
        largest = std::max<uint32_t>(largest, value);
        tokens[i] = static_cast<int32_t>(value);
    }
    return largest;
}

}  // namespace

int64_t shard_token_bytes(int64_t vocabulary_size) { return vocabulary_size <= 65536 ? 2 : 4; }

TokenShard::TokenShard(const std::filesystem::path& path) : path_(path), file_(path) {
    const std::string name = path.string();
    const auto size = static_cast<int64_t>(file_.text().size());
    LATHE_CHECK_USAGE(size >= kShardHeaderBytes,
                      "{}: has {} bytes, less than a token shard's header of {}; {}", name, size,
                      kShardHeaderBytes, kMend);
    std::array<int32_t, 3> header{};
    std::memcpy(header.data(), file_.text().data(), sizeof(header));
    const auto kind = std::ranges::find(kKinds, header[0], &ShardKind::magic);
    LATHE_CHECK_USAGE(kind != kKinds.end(),
                      "{}: is not a token shard: magic number {} instead of {} or {}; {}", name,
                      header[0], kKinds[0].magic, kKinds[1].magic, kMend);
    LATHE_CHECK_USAGE(header[1] == kind->version,
                      "{}: has token shard version {}, Lathe reads {}; {}", name, header[1],
                      kind->version, kMend);
    num_tokens_ = header[2];
    token_bytes_ = kind->token_bytes;
    LATHE_CHECK_USAGE(num_tokens_ > 0, "{}: its header says {} tokens; {}", name, num_tokens_,
                      kMend);
    const int64_t expected = kShardHeaderBytes + num_tokens_ * token_bytes_;
    LATHE_CHECK_USAGE(size == expected,
                      "{}: has {} bytes, but {} tokens of {} bytes need {}: it is {}; {}", name,
                      size, num_tokens_, token_bytes_, expected,
                      size < expected ? "truncated" : "too long", kMend);
}

void TokenShard::copy(int64_t begin, std::span<int32_t> tokens, int64_t vocabulary_size) const {
    const auto count = static_cast<int64_t>(tokens.size());
    LATHE_CHECK(begin >= 0 && begin <= num_tokens_ && count <= num_tokens_ - begin,
                "{}: tokens {}+{} of {}", path_.string(), begin, count, num_tokens_);
    const char* source = file_.text().data() + kShardHeaderBytes + begin * token_bytes_;
    const uint32_t largest =
        token_bytes_ == 2 ? widen<uint16_t>(source, tokens) : widen<uint32_t>(source, tokens);
    if (count == 0 || int64_t{largest} < vocabulary_size) return;
    const auto bad = std::ranges::find(tokens, static_cast<int32_t>(largest));
    fail_usage("{}: token {} is {}, not below the vocabulary size {}; {}", path_.string(),
               begin + (bad - tokens.begin()), largest, vocabulary_size, kMend);
}

TokenShardWriter::TokenShardWriter(std::filesystem::path folder, std::string split,
                                   int64_t vocabulary_size, int64_t tokens_per_shard)
    : folder_(std::move(folder)),
      split_(std::move(split)),
      vocabulary_size_(vocabulary_size),
      tokens_per_shard_(tokens_per_shard),
      token_bytes_(shard_token_bytes(vocabulary_size)) {
    LATHE_CHECK_USAGE(tokens_per_shard_ >= 1 && tokens_per_shard_ <= kMaxShardTokens,
                      "{} tokens a shard is not in 1..{}", tokens_per_shard_, kMaxShardTokens);
}

void TokenShardWriter::append(std::span<const int32_t> tokens) {
    while (!tokens.empty()) {
        if (file_ == nullptr) open_shard();
        const auto count = static_cast<size_t>(std::min<int64_t>(
            static_cast<int64_t>(tokens.size()), tokens_per_shard_ - shard_tokens_));
        for (const int32_t token : tokens.first(count)) {
            LATHE_CHECK(token >= 0 && token < vocabulary_size_, "token {} is not in 0..{}", token,
                        vocabulary_size_ - 1);
            // Little-endian: the low bytes come first.
            buffer_.append(reinterpret_cast<const char*>(&token),
                           static_cast<size_t>(token_bytes_));
        }
        if (buffer_.size() >= kBufferBytes) flush();
        shard_tokens_ += static_cast<int64_t>(count);
        num_tokens_ += static_cast<int64_t>(count);
        tokens = tokens.subspan(count);
        if (shard_tokens_ == tokens_per_shard_) close_shard();
    }
}

std::vector<ShardInfo> TokenShardWriter::finish() {
    if (file_ != nullptr) close_shard();
    return shards_;
}

void TokenShardWriter::open_shard() {
    const std::string name = fmt::format("{}-{:05}.bin", split_, shards_.size());
    file_ = std::make_unique<FileWriter>(folder_ / name);
    shards_.push_back({name, 0});
    shard_tokens_ = 0;
    file_->write(header_text({}));
}

void TokenShardWriter::flush() {
    file_->write(buffer_);
    buffer_.clear();
}

void TokenShardWriter::close_shard() {
    flush();
    const auto kind = std::ranges::find(kKinds, token_bytes_, &ShardKind::token_bytes);
    const std::array<int32_t, kHeaderInts> header = {kind->magic, kind->version,
                                                     static_cast<int32_t>(shard_tokens_)};
    const std::string_view text = header_text(header);
    file_->write_at(0, text.data(), static_cast<int64_t>(text.size()));
    file_->finish();
    file_.reset();
    shards_.back().num_tokens = shard_tokens_;
}

}  // namespace lathe
