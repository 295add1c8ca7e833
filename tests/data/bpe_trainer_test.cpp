#include "data/bpe_trainer.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "data/byte_level.h"
#include "tests/data/texts.h"
#include "tests/support/expect_error.h"
#include "tests/support/slow_build.h"

namespace lathe {
namespace {

std::string trained_json(std::span<const std::string_view> texts,
                         const BpeTrainerOptions& options) {
    const TemporaryFolder folder;
    train_tokenizer(texts, options).save(folder / "tokenizer.json");
    return read_file(folder / "tokenizer.json");
}

std::vector<std::string> merges_of(const std::string& json) {
    return nlohmann::json::parse(json).at("model").at("merges").get<std::vector<std::string>>();
}

/// The definition: count all pairs anew, merge the most frequent one, smaller ids first.
std::vector<std::string> merges_by_definition(std::string_view text, size_t num_merges) {
    const Pretokenizer pretokenizer({std::string(split_pattern_regex(SplitPattern::kGpt2))});
    Pretokenizer::Matcher matcher(pretokenizer);
    std::map<std::string, int> ids;
    for (const uint8_t byte : byte_level_alphabet()) {
        ids.emplace(byte_level_character(byte), static_cast<int>(ids.size()));
    }
    std::vector<std::vector<std::string>> words;
    matcher.split(text, [&](std::string_view piece) {
        auto& word = words.emplace_back();
        for (const char c : piece) word.push_back(to_byte_level(std::string(1, c)));
    });
    std::vector<std::string> merges;
    while (merges.size() < num_merges) {
        std::map<std::pair<int, int>, int> counts;
        std::map<std::pair<int, int>, std::pair<std::string, std::string>> names;
        for (const auto& word : words) {
            for (size_t i = 0; i + 1 < word.size(); ++i) {
                const auto pair = std::pair(ids.at(word[i]), ids.at(word[i + 1]));
                ++counts[pair];
                names[pair] = {word[i], word[i + 1]};
            }
        }
        if (counts.empty()) break;
        const auto best = std::ranges::max_element(
            counts, [](const auto& a, const auto& b) { return a.second < b.second; });
        const auto [left, right] = names[best->first];
        merges.push_back(left + " " + right);
        ids.emplace(left + right, static_cast<int>(ids.size()));
        for (auto& word : words) {
            for (size_t i = 0; i + 1 < word.size(); ++i) {
                if (word[i] != left || word[i + 1] != right) continue;
                word[i] += right;
                word.erase(word.begin() + static_cast<ptrdiff_t>(i) + 1);
            }
        }
    }
    return merges;
}

TEST(BpeTrainer, LearnsTheMostFrequentPairs) {
    for (uint64_t seed = 0; seed < 5; ++seed) {
        const std::string text = random_words(seed, 1500);
        const std::string_view view = text;
        BpeTrainerOptions options;
        options.vocabulary_size = 257 + 150;
        EXPECT_EQ(merges_of(trained_json({&view, 1}, options)), merges_by_definition(text, 150));
    }
}

TEST(BpeTrainer, GivesTheSameForAnyNumberOfThreads) {
    std::vector<std::string> documents;
    for (uint64_t seed = 0; seed < 6; ++seed)
        documents.push_back(random_words(seed, test::kSlowBuild ? 20000 : 80000));
    documents.push_back(random_text(7, 20000, 6));
    const std::vector<std::string_view> views(documents.begin(), documents.end());
    for (const SplitPattern pattern : {SplitPattern::kGpt2, SplitPattern::kLlama3}) {
        BpeTrainerOptions options;
        options.vocabulary_size = 3000;
        options.pattern = pattern;
        options.num_threads = 1;
        const std::string alone = trained_json(views, options);
        for (const int num_threads : {2, 3, 8}) {
            options.num_threads = num_threads;
            EXPECT_EQ(trained_json(views, options), alone) << num_threads;
        }
        // Nor does it matter how the text arrives.
        BpeTrainer trainer(options);
        for (const std::string_view view : views) trainer.add({&view, 1});
        EXPECT_EQ(trainer.finish().fingerprint(),
                  Tokenizer::from_json(alone, "alone").fingerprint());
    }
}

TEST(BpeTrainer, StopsWhereTheTextHasNoMorePairs) {
    const std::string_view text = "abab";
    const Tokenizer tokenizer = train_tokenizer({&text, 1}, {});
    EXPECT_EQ(tokenizer.vocabulary_size(), 257 + 2);
    EXPECT_EQ(tokenizer.encode("abab").size(), 1U);
    EXPECT_EQ(train_tokenizer({}, {}).vocabulary_size(), 257);
}

TEST(BpeTrainer, PutsSpecialTokensFirst) {
    BpeTrainerOptions options;
    options.special_tokens = {"<|endoftext|>", "<|user|>"};
    options.vocabulary_size = 258;
    const std::string_view text = "some text";
    const Tokenizer tokenizer = train_tokenizer({&text, 1}, options);
    EXPECT_EQ(tokenizer.vocabulary_size(), 258);
    EXPECT_EQ(tokenizer.end_of_text(), 0);
    EXPECT_EQ(tokenizer.added_token("<|user|>"), 1);
}

TEST(BpeTrainer, RejectsImpossibleOptions) {
    const auto rejects = [](int64_t size, std::vector<std::string> special, std::string_view part) {
        BpeTrainerOptions options;
        options.vocabulary_size = size;
        options.special_tokens = std::move(special);
        expect_usage_error([&] { BpeTrainer trainer(options); }, {part});
    };
    rejects(256, {"<|endoftext|>"}, "vocabulary size 256");
    rejects(1000, {""}, "empty");
    rejects(1000, {"<a>", "<a>"}, "twice");
    rejects(1000, {"a"}, "byte");
    rejects(1000, {"\xFF<"}, "UTF-8");
}

}  // namespace
}  // namespace lathe
