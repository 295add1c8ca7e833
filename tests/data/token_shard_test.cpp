#include "data/token_shard.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <numeric>

#include "tests/data/file_size_limit.h"
#include "tests/support/expect_error.h"

namespace lathe {
namespace {

std::vector<int32_t> counting(int64_t count, int32_t vocabulary_size) {
    std::vector<int32_t> tokens(static_cast<size_t>(count));
    for (size_t i = 0; i < tokens.size(); ++i) {
        tokens[i] = static_cast<int32_t>(i * 7919 % static_cast<size_t>(vocabulary_size));
    }
    return tokens;
}

std::vector<ShardInfo> write_shards(const TemporaryFolder& folder, std::span<const int32_t> tokens,
                                    int64_t vocabulary_size, int64_t tokens_per_shard) {
    TokenShardWriter writer(folder.path(), "train", vocabulary_size, tokens_per_shard);
    // In uneven strides, so that a stride spans shards and a shard spans strides.
    while (!tokens.empty()) {
        const size_t count = std::min<size_t>(tokens.size(), 97);
        writer.append(tokens.first(count));
        tokens = tokens.subspan(count);
    }
    return writer.finish();
}

/// A file of `size` bytes that takes no room: header, then a hole.
void write_sparse(const std::filesystem::path& path, std::array<int32_t, 3> header, int64_t size) {
    write_file(path, std::string(reinterpret_cast<const char*>(header.data()), sizeof(header)));
    std::filesystem::resize_file(path, static_cast<uintmax_t>(size));
}

TEST(TokenShard, ReadsWhatTheWriterWrote) {
    for (const int64_t vocabulary_size : {300, 65536, 65537, 200000}) {
        const TemporaryFolder folder;
        const auto tokens = counting(1000, static_cast<int32_t>(vocabulary_size));
        const std::vector<ShardInfo> shards = write_shards(folder, tokens, vocabulary_size, 300);
        ASSERT_EQ(shards.size(), 4U);
        EXPECT_EQ(shards[3].name, "train-00003.bin");
        std::vector<int32_t> read;
        for (const ShardInfo& info : shards) {
            const TokenShard shard(folder / info.name);
            EXPECT_EQ(shard.num_tokens(), info.num_tokens);
            EXPECT_EQ(shard.token_bytes(), vocabulary_size <= 65536 ? 2 : 4);
            std::vector<int32_t> part(static_cast<size_t>(shard.num_tokens()));
            shard.copy(0, part, vocabulary_size);
            read.insert(read.end(), part.begin(), part.end());
        }
        EXPECT_EQ(read, tokens);
    }
}

TEST(TokenShard, HasTheLayoutOfLlmC) {
    const TemporaryFolder folder;
    write_shards(folder, std::vector<int32_t>{1, 258, 65535}, 65536, 10);
    const std::string bytes = read_file(folder / "train-00000.bin");
    ASSERT_EQ(bytes.size(), 1024U + 6U);
    std::array<int32_t, 256> header{};
    std::memcpy(header.data(), bytes.data(), 1024);
    EXPECT_EQ(header[0], 20240520);
    EXPECT_EQ(header[1], 1);
    EXPECT_EQ(header[2], 3);
    EXPECT_EQ(std::accumulate(header.begin() + 3, header.end(), 0), 0);
    EXPECT_EQ(bytes.substr(1024), std::string("\x01\x00\x02\x01\xFF\xFF", 6));
}

TEST(TokenShard, WritesNothingForNothing) {
    const TemporaryFolder folder;
    EXPECT_TRUE(write_shards(folder, {}, 300, 10).empty());
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
    // A full last shard is not followed by an empty one.
    EXPECT_EQ(write_shards(folder, counting(20, 300), 300, 10).size(), 2U);
}

TEST(TokenShard, ReadsBeyondTwoAndFourGigabytes) {
    const TemporaryFolder folder;
    const int32_t count = 2147483647;
    for (const int64_t token_bytes : {2, 4}) {
        const auto path = folder / "big.bin";
        write_sparse(
            path,
            token_bytes == 2 ? std::array{20240520, 1, count} : std::array{20240801, 7, count},
            1024 + int64_t{count} * token_bytes);
        {
            std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
            file.seekp(1024 + (int64_t{count} - 1) * token_bytes);
            file.put(42);
        }
        const TokenShard shard(path);
        EXPECT_EQ(shard.num_tokens(), count);
        std::vector<int32_t> tokens(3);
        shard.copy(int64_t{count} - 3, tokens, 50);
        EXPECT_EQ(tokens, (std::vector<int32_t>{0, 0, 42}));
        EXPECT_THROW(shard.copy(int64_t{count} - 2, tokens, 50), Error);
    }
}

TEST(TokenShard, RefusesDamagedFiles) {
    const TemporaryFolder folder;
    const auto path = folder / "train-00000.bin";
    const auto rejects = [&](std::string_view part) {
        expect_usage_error([&] { TokenShard shard(path); }, {"train-00000.bin", part});
    };
    rejects("No such file");
    write_file(path, "");
    rejects("0 bytes");
    write_file(path, std::string(1023, '\0'));
    rejects("1023 bytes");
    write_sparse(path, {1, 1, 10}, 1044);
    rejects("magic number 1");
    write_sparse(path, {20240520, 7, 10}, 1044);
    rejects("version 7");
    write_sparse(path, {20240520, 1, 0}, 1024);
    rejects("0 tokens");
    write_sparse(path, {20240520, 1, -5}, 1034);
    rejects("-5 tokens");
    write_sparse(path, {20240520, 1, 10}, 1043);
    rejects("truncated");
    write_sparse(path, {20240520, 1, 10}, 1045);
    rejects("too long");
    // 2^31 + 10 tokens: a writer whose count overflowed.
    write_sparse(path, {20240520, 1, 10}, 1024 + ((int64_t{1} << 31) + 10) * 2);
    rejects("too long");
    write_sparse(path, {20240520, 1, 10}, 1044);
    std::vector<int32_t> tokens(4);
    const TokenShard shard(path);
    EXPECT_THROW(shard.copy(7, tokens, 300), Error);
    EXPECT_THROW(shard.copy(-1, tokens, 300), Error);
}

TEST(TokenShard, RefusesTokensOutsideTheVocabulary) {
    const TemporaryFolder folder;
    write_shards(folder, std::vector<int32_t>{1, 2, 299, 3}, 300, 10);
    const TokenShard shard(folder / "train-00000.bin");
    std::vector<int32_t> tokens(4);
    shard.copy(0, tokens, 300);
    expect_usage_error([&] { shard.copy(0, tokens, 299); },
                       {"token 2 is 299", "vocabulary size 299"});
    TokenShardWriter writer(folder.path(), "other", 300, 10);
    EXPECT_THROW(writer.append(std::vector<int32_t>{300}), Error);
    EXPECT_THROW(writer.append(std::vector<int32_t>{-1}), Error);
    EXPECT_THROW(TokenShardWriter(folder.path(), "other", 300, 0), UsageError);
    EXPECT_THROW(TokenShardWriter(folder.path(), "other", 300, kMaxShardTokens + 1), UsageError);
    // Tokens of 32 bits above 2^31 are not negative ids.
    write_sparse(folder / "wide.bin", {20240801, 7, 1}, 1024);
    std::ofstream(folder / "wide.bin", std::ios::binary | std::ios::app)
        .write("\xFF\xFF\xFF\xFF", 4);
    const TokenShard wide(folder / "wide.bin");
    expect_usage_error([&] { wide.copy(0, std::span(tokens).first(1), 300); }, {"4294967295"});
}

TEST(TokenShard, LeavesNothingHalfWritten) {
    const TemporaryFolder folder;
    {
        TokenShardWriter writer(folder.path(), "train", 300, 1000);
        writer.append(counting(500, 300));
        EXPECT_FALSE(std::filesystem::exists(folder / "train-00000.bin"));
    }
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
    TokenShardWriter writer(folder / "absent", "train", 300, 1000);
    EXPECT_THROW(writer.append(counting(5, 300)), Error);
}

TEST(TokenShard, ReportsAFullDisk) {
    const TemporaryFolder folder;
    // The temporary file's name leads to the device that is always full.
    std::filesystem::create_symlink(
        "/dev/full", folder / fmt::format(".partial-train-00000.bin-{}", ::getpid()));
    expect_usage_error(
        [&] {
            TokenShardWriter writer(folder.path(), "train", 300, 10'000'000);
            writer.append(counting(2'000'000, 300));
        },
        {"train-00000.bin", "No space left", "free some space"});
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(TokenShard, ReportsAFileSizeLimit) {
    const TemporaryFolder folder;
    const FileSizeLimit limit(4096);
    expect_usage_error([&] { write_shards(folder, counting(5000, 300), 300, 10000); },
                       {"train-00000.bin", "File too large"});
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace lathe
