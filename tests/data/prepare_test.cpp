#include "data/prepare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "data/tokenizer.h"
#include "tests/data/file_size_limit.h"
#include "tests/data/texts.h"
#include "tests/support/expect_error.h"

namespace lathe {
namespace {

PrepareOptions options_for(const TemporaryFolder& folder, std::vector<std::string> inputs) {
    PrepareOptions options;
    for (const std::string& input : inputs) options.corpus.inputs.push_back(folder / input);
    options.output = folder / "out";
    options.vocabulary_size = 500;
    return options;
}

std::vector<int32_t> tokens_of(const std::filesystem::path& folder, const char* split) {
    const TokenDataset dataset(folder, split);
    std::vector<int32_t> tokens(static_cast<size_t>(dataset.num_tokens()));
    dataset.copy(0, tokens);
    return tokens;
}

/// The documents of a split, decoded.
std::vector<std::string> documents_of(const std::filesystem::path& folder, const char* split) {
    const Tokenizer tokenizer = Tokenizer::load(folder / "tokenizer.json");
    std::vector<std::string> documents;
    std::vector<int32_t> ids;
    for (const int32_t id : tokens_of(folder, split)) {
        if (id == tokenizer.end_of_text()) {
            documents.push_back(tokenizer.decode(ids));
            ids.clear();
        } else {
            ids.push_back(id);
        }
    }
    EXPECT_TRUE(ids.empty()) << "the last document has no end";
    return documents;
}

std::string jsonl(const std::vector<std::string>& texts) {
    std::string lines;
    for (const std::string& text : texts) lines += nlohmann::json{{"text", text}}.dump() + "\n";
    return lines;
}

int64_t num_entries(const TemporaryFolder& folder) {
    return std::distance(std::filesystem::directory_iterator(folder.path()), {});
}

TEST(Corpus, HoldsOutTheExactFraction) {
    for (const double fraction : {0.01, 0.05, 0.1, 0.3, 1.0 / 3.0, 0.5}) {
        for (uint64_t seed = 0; seed < 3; ++seed) {
            int64_t held_out = 0;
            const int64_t count = 10000;
            for (int64_t unit = 0; unit < count; ++unit) {
                if (is_held_out(unit, fraction, seed)) ++held_out;
            }
            EXPECT_NEAR(static_cast<double>(held_out), fraction * static_cast<double>(count), 1.0)
                << fraction;
        }
    }
    EXPECT_FALSE(is_held_out(0, 0.0, 0));
}

TEST(Prepare, SplitsOneTextWithoutLosingAByte) {
    const TemporaryFolder folder;
    const std::string text = random_words(1, 60000) + random_text(2, 20000, 50);
    write_file(folder / "book.txt", text);
    const PrepareResult result = prepare(options_for(folder, {"book.txt"}));
    const SplitInfo& train = result.info.splits.at("train");
    const SplitInfo& validation = result.info.splits.at("validation");
    const auto size = static_cast<double>(text.size());
    EXPECT_EQ(train.num_bytes + validation.num_bytes, static_cast<int64_t>(text.size()));
    EXPECT_NEAR(static_cast<double>(validation.num_bytes) / size, 0.05, 0.01);
    EXPECT_GE(validation.num_documents, 6);
    // The documents of both splits, interleaved, are the text.
    const auto documents = std::array{documents_of(folder / "out", "train"),
                                      documents_of(folder / "out", "validation")};
    EXPECT_EQ(static_cast<int64_t>(documents[0].size()), train.num_documents);
    EXPECT_EQ(static_cast<int64_t>(documents[1].size()), validation.num_documents);
    std::array<size_t, 2> next{};
    std::string_view rest = text;
    size_t split = rest.starts_with(documents[0][0]) ? 0 : 1;
    while (!rest.empty()) {
        ASSERT_LT(next[split], documents[split].size());
        const std::string& document = documents[split][next[split]++];
        ASSERT_TRUE(rest.starts_with(document));
        rest.remove_prefix(document.size());
        split = 1 - split;
    }
}

TEST(Prepare, IsTheSameForAnyNumberOfThreads) {
    const TemporaryFolder folder;
    write_file(folder / "a.txt", random_words(1, 120000));
    write_file(folder / "b.txt", random_words(2, 500));
    std::vector<std::string> files;
    for (const int num_threads : {1, 2, 3, 8}) {
        PrepareOptions options = options_for(folder, {"a.txt", "b.txt"});
        options.output = folder / std::to_string(num_threads);
        options.num_threads = num_threads;
        prepare(options);
        std::string all;
        for (const char* name :
             {"dataset.json", "tokenizer.json", "train-00000.bin", "validation-00000.bin"}) {
            all += read_file(options.output / name);
        }
        files.push_back(all);
    }
    for (const std::string& all : files) EXPECT_TRUE(all == files[0]);
}

TEST(Prepare, TrainsTheTokenizerOnTrainingTextOnly) {
    const TemporaryFolder folder;
    PrepareOptions options = options_for(folder, {"a.jsonl"});
    options.corpus.validation_fraction = 0.1;
    // The held-out documents repeat a word that nothing else holds: no merge may know it.
    std::vector<std::string> texts;
    for (int64_t i = 0; i < 200; ++i) {
        std::string held_out;
        for (int n = 0; n < 300; ++n) held_out += " zyxwvut";
        texts.push_back(is_held_out(i, 0.1, 0) ? held_out
                                               : random_words(static_cast<uint64_t>(i), 50));
    }
    write_file(folder / "a.jsonl", jsonl(texts));
    prepare(options);
    const Tokenizer tokenizer = Tokenizer::load(folder / "out" / "tokenizer.json");
    EXPECT_GE(tokenizer.encode(" zyxwvut").size(), 7U);
    for (const std::string& document : documents_of(folder / "out", "validation")) {
        EXPECT_TRUE(document.starts_with(" zyxwvut"));
    }
}

TEST(Prepare, ReadsJsonl) {
    const TemporaryFolder folder;
    const std::vector<std::string> texts = {"one\ntwo", "<|endoftext|> is text here",
                                            "\u5929 \"q\"", "\x01 end"};
    write_file(folder / "a.jsonl", jsonl(texts) + "\n  \r\n" + jsonl({""}));
    write_file(folder / "b.txt", "plain\n");
    PrepareOptions options = options_for(folder, {"a.jsonl", "b.txt"});
    options.corpus.validation_fraction = 0.0;
    const PrepareResult result = prepare(options);
    std::vector<std::string> expected = texts;
    expected.push_back("plain\n");
    EXPECT_EQ(documents_of(folder / "out", "train"), expected);
    EXPECT_EQ(result.info.unigram_entropy, 0.0);
    EXPECT_TRUE(result.info.splits.at("validation").shards.empty());
    options.corpus.format = CorpusFormat::kText;
    options.output = folder / "as text";
    prepare(options);
    EXPECT_EQ(documents_of(options.output, "train")[0], read_file(folder / "a.jsonl"));
}

TEST(Prepare, NamesTheBadLine) {
    const TemporaryFolder folder;
    for (const char* bad : {"{\"text\": ", "{\"body\": \"x\"}", "{\"text\": 5}", "[1]", "\"x\"",
                            "{\"text\": \"\xFF\"}"}) {
        write_file(folder / "a.jsonl", jsonl({"one", "two"}) + bad + "\n" + jsonl({"four"}));
        expect_usage_error([&] { prepare(options_for(folder, {"a.jsonl"})); },
                           {"a.jsonl:3:", "text"});
    }
    EXPECT_EQ(num_entries(folder), 1);  // the input
}

TEST(Prepare, RefusesInputsWithoutText) {
    const TemporaryFolder folder;
    write_file(folder / "empty.txt", "");
    write_file(folder / "empty.jsonl", "\n\n" + jsonl({""}));
    write_file(folder / "one.jsonl", jsonl({"alone"}));
    const auto rejects = [&](std::vector<std::string> inputs, std::string_view part) {
        expect_usage_error([&] { prepare(options_for(folder, inputs)); }, {part});
        EXPECT_FALSE(std::filesystem::exists(folder / "out"));
    };
    rejects({}, "no input file");
    rejects({"absent.txt"}, "absent.txt: no such file");
    rejects({"."}, "not a regular file");
    rejects({"empty.txt"}, "empty");
    rejects({"empty.jsonl"}, "holds no text");
    rejects({"one.jsonl"}, "validation fraction 0.05");
    PrepareOptions options = options_for(folder, {"one.jsonl"});
    options.corpus.validation_fraction = 0.6;
    expect_usage_error([&] { prepare(options); }, {"validation fraction 0.6"});
    options = options_for(folder, {"one.jsonl"});
    options.vocabulary_size = 10;
    expect_usage_error([&] { prepare(options); }, {"vocabulary size 10"});
    options = options_for(folder, {"one.jsonl"});
    options.tokenizer = folder / "absent.json";
    expect_usage_error([&] { prepare(options); }, {"absent.json"});
}

TEST(Prepare, ReusesATokenizerAndWritesSeveralShards) {
    const TemporaryFolder folder;
    write_file(folder / "a.txt", random_words(1, 30000));
    PrepareOptions options = options_for(folder, {"a.txt"});
    prepare(options);
    const std::vector<int32_t> expected = tokens_of(options.output, "train");
    options.tokenizer = folder / "out" / "tokenizer.json";
    options.output = folder / "again";
    options.tokens_per_shard = 1000;
    const PrepareResult result = prepare(options);
    EXPECT_GT(result.info.splits.at("train").shards.size(), 10U);
    EXPECT_EQ(tokens_of(options.output, "train"), expected);
    EXPECT_EQ(read_file(options.output / "tokenizer.json"),
              read_file(folder / "out/tokenizer.json"));
}

TEST(Prepare, MeasuresTheUnigramEntropy) {
    const TemporaryFolder folder;
    write_file(folder / "a.txt", random_words(1, 30000));
    const PrepareResult result = prepare(options_for(folder, {"a.txt"}));
    const std::vector<int32_t> train = tokens_of(folder / "out", "train");
    const std::vector<int32_t> validation = tokens_of(folder / "out", "validation");
    double sum = 0.0;
    for (const int32_t id : validation) {
        const auto count = static_cast<double>(std::ranges::count(train, id));
        sum -= std::log((count + 1.0) / static_cast<double>(train.size() + 500));
    }
    // Two orders of adding some 10^4 numbers of one sign in double.
    EXPECT_NEAR(result.info.unigram_entropy, sum / static_cast<double>(validation.size()), 1e-10);
    EXPECT_EQ(read_dataset_info(folder / "out").unigram_entropy, result.info.unigram_entropy);
}

TEST(Prepare, SamplesLongTextForTheTokenizer) {
    const TemporaryFolder folder;
    std::vector<std::string> texts;
    for (uint64_t i = 0; i < 400; ++i) texts.push_back(random_words(i, 100));
    write_file(folder / "a.jsonl", jsonl(texts));
    PrepareOptions options = options_for(folder, {"a.jsonl"});
    options.tokenizer_bytes = 20000;
    EXPECT_EQ(prepare(options).info.vocabulary_size, 500);
    EXPECT_EQ(documents_of(folder / "out", "train").size(), 380U);
}

TEST(Prepare, DoesFinishedWorkOnceAndRefusesOtherWork) {
    const TemporaryFolder folder;
    write_file(folder / "a.txt", random_words(1, 30000));
    PrepareOptions options = options_for(folder, {"a.txt"});
    std::filesystem::create_directory(folder / "out");                 // empty: taken
    std::filesystem::create_directories(folder / ".partial-out-1/x");  // of a killed run: removed
    EXPECT_FALSE(prepare(options).was_finished);
    EXPECT_FALSE(std::filesystem::exists(folder / ".partial-out-1"));
    const PrepareResult again = prepare(options);
    EXPECT_TRUE(again.was_finished);
    EXPECT_EQ(again.info.splits.at("train").num_tokens,
              static_cast<int64_t>(tokens_of(folder / "out", "train").size()));
    options.output = folder / "out/";
    EXPECT_TRUE(prepare(options).was_finished);
    options.vocabulary_size = 400;
    expect_usage_error([&] { prepare(options); }, {"out: already holds other work"});
    options.vocabulary_size = 500;
    write_file(folder / "a.txt", random_words(2, 30000));
    expect_usage_error([&] { prepare(options); }, {"out: already holds other work"});
    std::filesystem::create_directory(folder / "mine");
    write_file(folder / "mine/notes.txt", "keep me");
    options.output = folder / "mine";
    expect_usage_error([&] { prepare(options); }, {"mine: already holds other work"});
    EXPECT_EQ(read_file(folder / "mine/notes.txt"), "keep me");
    options.output = folder / "a.txt";
    expect_usage_error([&] { prepare(options); }, {"is not a folder"});
    options.output = folder / "a.txt" / "out";
    expect_usage_error([&] { prepare(options); }, {"cannot create"});
}

TEST(Prepare, LeavesNothingWhereTheDiskIsFull) {
    const TemporaryFolder folder;
    write_file(folder / "a.txt", random_words(1, 60000));
    const FileSizeLimit limit(60000);
    expect_usage_error([&] { prepare(options_for(folder, {"a.txt"})); },
                       {"train-00000.bin", "File too large", "free some space"});
    EXPECT_EQ(num_entries(folder), 1);  // the input
}

}  // namespace
}  // namespace lathe
