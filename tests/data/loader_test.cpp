#include "data/loader.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "tests/support/expect_error.h"

namespace lathe {
namespace {

/// A data folder whose training tokens count 0, 1, 2, ... (below 65,536), in shards of
/// `tokens_per_shard`.
void write_counting_dataset(const std::filesystem::path& folder, int64_t num_tokens,
                            int64_t tokens_per_shard) {
    std::vector<int32_t> tokens(static_cast<size_t>(num_tokens));
    std::iota(tokens.begin(), tokens.end(), 0);
    TokenShardWriter writer(folder, "train", 65536, tokens_per_shard);
    writer.append(tokens);
    DatasetInfo info;
    info.vocabulary_size = 65536;
    info.recipe = "{}";
    info.splits["train"] = {1, 4 * num_tokens, num_tokens, writer.finish()};
    info.splits["validation"] = {};
    write_dataset_info(folder, info);
}

TEST(Permutation, IsABijectionForManySizes) {
    std::vector<int64_t> sizes(300);
    std::iota(sizes.begin(), sizes.end(), 1);
    for (const int64_t size : {511, 512, 513, 1023, 1024, 1025, 4095, 4097, 65537, 100003}) {
        sizes.push_back(size);
    }
    for (const int64_t size : sizes) {
        for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
            std::vector<bool> seen(static_cast<size_t>(size));
            for (int64_t i = 0; i < size; ++i) {
                const int64_t index = permuted_index(i, size, seed, 3);
                ASSERT_GE(index, 0);
                ASSERT_LT(index, size);
                ASSERT_FALSE(seen[static_cast<size_t>(index)]) << size;
                seen[static_cast<size_t>(index)] = true;
            }
        }
    }
}

TEST(Permutation, WorksAtHugeSizes) {
    const int64_t size = (int64_t{1} << 62) - 57;
    std::set<int64_t> seen;
    for (int64_t i = 0; i < 1000; ++i) {
        const int64_t index = permuted_index(size - 1 - i, size, 5, 0);
        EXPECT_GE(index, 0);
        EXPECT_LT(index, size);
        seen.insert(index);
    }
    EXPECT_EQ(seen.size(), 1000U);
    EXPECT_THROW(permuted_index(5, 5, 0, 0), Error);
    EXPECT_THROW(permuted_index(-1, 5, 0, 0), Error);
}

/// Positions of element 0 over many epochs are spread evenly: chi-squared over 16 cells of 16,000
/// draws has mean 15 and standard deviation 5.5, so 50 is over six deviations away.
TEST(Permutation, LooksRandom) {
    for (const int64_t size : {1000, 4096}) {
        std::vector<double> cells(16);
        const int draws = 16000;
        for (int epoch = 0; epoch < draws; ++epoch) {
            cells[static_cast<size_t>(permuted_index(7, size, 1, epoch) * 16 / size)] += 1.0;
        }
        double chi_squared = 0.0;
        for (const double cell : cells) {
            chi_squared += (cell - draws / 16.0) * (cell - draws / 16.0) / (draws / 16.0);
        }
        EXPECT_LT(chi_squared, 50.0) << size;
        int64_t neighbours = 0;
        for (int64_t i = 0; i + 1 < size; ++i) {
            const int64_t step = permuted_index(i + 1, size, 1, 0) - permuted_index(i, size, 1, 0);
            if (step == 1) ++neighbours;
        }
        EXPECT_LT(neighbours, 10) << size;  // one expected
    }
}

TEST(Loader, CoversEachWindowOnceAnEpoch) {
    const TemporaryFolder folder;
    write_counting_dataset(folder.path(), 1000, 300);
    const TokenDataset dataset(folder.path(), "train");
    const int64_t length = 7;
    const Loader loader(dataset, length, 42);
    ASSERT_EQ(loader.num_samples(), 142);
    std::vector<std::vector<int64_t>> orders;
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
        std::vector<int64_t> order;
        for (int64_t i = 0; i < loader.num_samples(); ++i) {
            order.push_back(loader.window(epoch * loader.num_samples() + i));
        }
        EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 142U);
        orders.push_back(order);
    }
    EXPECT_NE(orders[0], orders[1]);
    EXPECT_NE(orders[1], orders[2]);
    EXPECT_NE(Loader(dataset, length, 43).window(0) * 1000 + Loader(dataset, length, 43).window(1),
              loader.window(0) * 1000 + loader.window(1));
}

TEST(Loader, FillsInputsAndTargetsAcrossShards) {
    const TemporaryFolder folder;
    write_counting_dataset(folder.path(), 1000, 13);
    const TokenDataset dataset(folder.path(), "train");
    for (const int64_t length : {1, 7, 100, 999}) {
        const Loader loader(dataset, length, 1);
        const int64_t count = loader.num_samples();
        std::vector<int32_t> tokens(static_cast<size_t>(count * length));
        std::vector<int32_t> targets(tokens.size());
        loader.fill(0, count, tokens, targets);
        for (int64_t b = 0; b < count; ++b) {
            for (int64_t t = 0; t < length; ++t) {
                const auto at = static_cast<size_t>(b * length + t);
                ASSERT_EQ(tokens[at], loader.window(b) * length + t);
                ASSERT_EQ(targets[at], tokens[at] + 1);
            }
        }
    }
}

TEST(Loader, IsAFunctionOfTheSampleAlone) {
    const TemporaryFolder folder;
    write_counting_dataset(folder.path(), 5000, 777);
    const TokenDataset dataset(folder.path(), "train");
    const Loader loader(dataset, 16, 9);
    const int64_t count = 700;  // more than two epochs
    std::vector<int32_t> tokens(static_cast<size_t>(count * 16));
    std::vector<int32_t> targets(tokens.size());
    loader.fill(0, count, tokens, targets);
    // Another loader, in other batches, from the middle on: what a resumed run does.
    const Loader resumed(dataset, 16, 9);
    for (int64_t first = 301; first + 3 <= count; first += 3) {
        std::vector<int32_t> some(3 * 16);
        std::vector<int32_t> some_targets(3 * 16);
        resumed.fill(first, 3, some, some_targets);
        const auto offset = static_cast<ptrdiff_t>(first * 16);
        ASSERT_TRUE(std::equal(some.begin(), some.end(), tokens.begin() + offset));
        ASSERT_TRUE(std::equal(some_targets.begin(), some_targets.end(), targets.begin() + offset));
    }
}

TEST(Loader, KeepsTheOrderForValidation) {
    const TemporaryFolder folder;
    write_counting_dataset(folder.path(), 100, 100);
    const TokenDataset dataset(folder.path(), "train");
    const Loader loader(dataset, 10, 5, SampleOrder::kSequential);
    for (int64_t sample = 0; sample < 20; ++sample) {
        EXPECT_EQ(loader.window(sample), sample % loader.num_samples());
    }
}

TEST(Loader, RefusesTooLittleData) {
    const TemporaryFolder folder;
    write_counting_dataset(folder.path(), 64, 64);
    const TokenDataset dataset(folder.path(), "train");
    EXPECT_EQ(Loader(dataset, 63, 0).num_samples(), 1);
    expect_usage_error([&] { Loader(dataset, 64, 0); }, {"64 train tokens", "sequence length 64"});
    expect_usage_error([&] { Loader(dataset, 0, 0); }, {"sequence length 0"});
}

TEST(Dataset, RefusesShardsThatDisagreeWithItsDescription) {
    const TemporaryFolder folder;
    expect_usage_error([&] { TokenDataset(folder.path(), "train"); }, {"dataset.json", "prepare"});
    write_counting_dataset(folder.path(), 100, 30);
    EXPECT_EQ(TokenDataset(folder.path(), "train").num_tokens(), 100);
    expect_usage_error([&] { TokenDataset(folder.path(), "validation"); }, {"validation"});
    expect_usage_error([&] { TokenDataset(folder.path(), "test"); }, {"test"});
    std::filesystem::copy_file(folder / "train-00003.bin", folder / "train-00000.bin",
                               std::filesystem::copy_options::overwrite_existing);
    expect_usage_error([&] { TokenDataset(folder.path(), "train"); },
                       {"train-00000.bin", "10 tokens", "says 30"});
    std::filesystem::remove(folder / "train-00000.bin");
    expect_usage_error([&] { TokenDataset(folder.path(), "train"); },
                       {"train-00000.bin", "No such"});
    for (const char* bad : {"", "{", "[]", "{\"version\": 2}", "{\"version\": \"x\"}",
                            "{\"version\": 1, \"vocabulary_size\": -3}"}) {
        write_file(folder / "dataset.json", bad);
        expect_usage_error([&] { TokenDataset(folder.path(), "train"); }, {"dataset.json"});
    }
}

TEST(Dataset, RefusesTokensBeyondItsVocabulary) {
    const TemporaryFolder folder;
    write_counting_dataset(folder.path(), 100, 30);
    DatasetInfo info = read_dataset_info(folder.path());
    info.vocabulary_size = 95;
    write_dataset_info(folder.path(), info);
    const TokenDataset dataset(folder.path(), "train");
    std::vector<int32_t> tokens(50);
    dataset.copy(20, tokens);
    EXPECT_EQ(tokens[40], 60);
    expect_usage_error([&] { dataset.copy(50, tokens); }, {"train-00003.bin", "token 9 is 99"});
    EXPECT_THROW(dataset.copy(51, tokens), Error);
}

}  // namespace
}  // namespace lathe
