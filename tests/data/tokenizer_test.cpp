#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "data/bpe_trainer.h"
#include "data/byte_level.h"
#include "tests/data/texts.h"
#include "tests/support/expect_error.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

Tokenizer small_tokenizer(SplitPattern pattern = SplitPattern::kGpt2) {
    const std::string text = random_words(1, 20000);
    const std::string_view view = text;
    BpeTrainerOptions options;
    options.vocabulary_size = 600;
    options.pattern = pattern;
    return train_tokenizer({&view, 1}, options);
}

Json small_json(SplitPattern pattern = SplitPattern::kGpt2) {
    TemporaryFolder folder;
    small_tokenizer(pattern).save(folder / "tokenizer.json");
    return Json::parse(read_file(folder / "tokenizer.json"));
}

Tokenizer from(const Json& json) { return Tokenizer::from_json(json.dump(), "test.json"); }

std::string folder_of_goldens() { return LATHE_TEST_GOLDEN; }

TEST(ByteLevel, MapsEachByteToItsOwnCharacter) {
    std::string all;
    for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
    EXPECT_EQ(from_byte_level(to_byte_level(all)), all);
    EXPECT_EQ(to_byte_level(" a\n"), "\u0120a\u010A");
    EXPECT_EQ(from_byte_level("\u4E00"), std::nullopt);
    EXPECT_EQ(from_byte_level(" "), std::nullopt);
    EXPECT_EQ(from_byte_level("\xC4"), std::nullopt);
}

TEST(Tokenizer, GivesTheIdsOfTiktokenAndHuggingFace) {
    const Json cases = Json::parse(read_file(folder_of_goldens() + "/cases.json"));
    ASSERT_GT(cases.size(), 50U);
    for (const char* name : {"gpt2", "llama3"}) {
        const Tokenizer tokenizer =
            Tokenizer::load(folder_of_goldens() + "/" + name + ".tokenizer.json");
        for (const Json& golden : cases) {
            const auto text = golden.at("text").get<std::string>();
            EXPECT_EQ(tokenizer.encode(text), golden.at(name).get<std::vector<int32_t>>())
                << name << ": " << text;
        }
    }
}

TEST(Tokenizer, IsLosslessOnAnyBytes) {
    for (const SplitPattern pattern : {SplitPattern::kGpt2, SplitPattern::kLlama3}) {
        const Tokenizer tokenizer = small_tokenizer(pattern);
        for (uint64_t seed = 0; seed < 300; ++seed) {
            for (const std::string& text : {random_bytes(seed, seed), random_text(seed, seed, 0),
                                            random_text(seed, seed, 5), random_words(seed, seed)}) {
                EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << "seed " << seed;
            }
        }
    }
}

TEST(Tokenizer, IsLosslessOnLongPieces) {
    const Tokenizer tokenizer = small_tokenizer();
    const size_t size = 300000;
    for (const std::string& text :
         {std::string(size, 'a'), std::string(size, ' '), std::string(size, '\n') + "x",
          std::string(size, '\xFF'), std::string(size, '\0'), std::string(size, '1')}) {
        EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    }
}

/// Short pieces scan, long ones use a heap: the same rule, so a piece repeated to either length
/// must be encoded as the definition says. The definition, word by word, is the reference here.
std::vector<int32_t> encode_by_definition(const Json& json, std::string_view piece) {
    const Json& model = json.at("model");
    std::vector<std::string> parts;
    for (const char c : piece) parts.push_back(to_byte_level(std::string(1, c)));
    for (;;) {
        size_t best_rank = model.at("merges").size();
        size_t best = 0;
        for (size_t i = 0; i + 1 < parts.size(); ++i) {
            const auto found =
                std::ranges::find(model.at("merges"), Json(parts[i] + " " + parts[i + 1]));
            const auto rank = static_cast<size_t>(found - model.at("merges").begin());
            if (rank < best_rank) {
                best_rank = rank;
                best = i;
            }
        }
        if (best_rank == model.at("merges").size()) break;
        parts[best] += parts[best + 1];
        parts.erase(parts.begin() + static_cast<ptrdiff_t>(best) + 1);
    }
    std::vector<int32_t> ids;
    for (const std::string& part : parts) ids.push_back(model.at("vocab").at(part));
    return ids;
}

TEST(Tokenizer, MergesShortAndLongPiecesByTheDefinition) {
    const Json json = small_json();
    const Tokenizer tokenizer = from(json);
    for (uint64_t seed = 0; seed < 4; ++seed) {
        std::string piece = random_words(seed, 60);
        std::erase_if(piece, [](char c) { return c < 'a' || c > 'z'; });  // one piece
        for (const size_t size :
             {size_t{1}, size_t{31}, size_t{32}, size_t{64}, size_t{65}, size_t{90}}) {
            const std::string_view part = std::string_view(piece).substr(0, size);
            EXPECT_EQ(tokenizer.encode(part), encode_by_definition(json, part)) << part;
        }
    }
}

TEST(Tokenizer, EncodesInParallelAsAlone) {
    for (const SplitPattern pattern : {SplitPattern::kGpt2, SplitPattern::kLlama3}) {
        const Tokenizer tokenizer = small_tokenizer(pattern);
        const std::string text =
            random_words(3, 120000) + random_text(4, 100000, 7) + random_words(5, 60000);
        const std::vector<int32_t> alone = tokenizer.encode(text);
        for (const int num_threads : {1, 2, 3, 8}) {
            EXPECT_EQ(tokenizer.encode_parallel(text, num_threads), alone) << num_threads;
        }
        for (const int64_t part_bytes : {1, 2, 7, 1000}) {
            std::vector<int32_t> joined;
            const std::string_view sample =
                std::string_view(text).substr(text.size() / 2 - 20000, 60000);
            for (const std::string_view part : tokenizer.cut(sample, part_bytes)) {
                const std::vector<int32_t> ids = tokenizer.encode(part);
                joined.insert(joined.end(), ids.begin(), ids.end());
            }
            EXPECT_EQ(joined, tokenizer.encode(sample)) << part_bytes;
        }
    }
}

TEST(Tokenizer, MayBeSharedByThreads) {
    const Tokenizer tokenizer = small_tokenizer();
    const std::string text = random_words(9, 5000);
    const std::vector<int32_t> expected = tokenizer.encode(text);
    std::vector<int> equal(8, 0);
    {
        std::vector<std::jthread> threads;
        for (int& result : equal) {
            threads.emplace_back([&] { result = tokenizer.encode(text) == expected ? 1 : 0; });
        }
    }
    for (const int result : equal) EXPECT_EQ(result, 1);
}

TEST(Tokenizer, TreatsSpecialTokensAsAsked) {
    const Tokenizer tokenizer = small_tokenizer();
    const std::string text = "one<|endoftext|><|endoftext|> two <|endoftext";
    const int32_t end = tokenizer.end_of_text();
    EXPECT_TRUE(tokenizer.is_special(end));
    EXPECT_EQ(tokenizer.token_bytes(end), "<|endoftext|>");
    EXPECT_EQ(tokenizer.text_bytes().at(static_cast<size_t>(end)), 0);
    EXPECT_EQ(std::ranges::count(tokenizer.encode(text), end), 0);
    const std::vector<int32_t> ids = tokenizer.encode(text, SpecialText::kTokens);
    EXPECT_EQ(std::ranges::count(ids, end), 2);
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_EQ(tokenizer.encode_parallel(text, 2, SpecialText::kTokens), ids);
}

TEST(Tokenizer, FindsTheLongestAddedToken) {
    Json json = small_json();
    const auto add = [&](int id, const char* text, bool special) {
        json["added_tokens"].push_back({{"id", id}, {"content", text}, {"special", special}});
    };
    add(600, "<|a|>", true);
    add(601, "<|a|><|b|>", true);
    add(602, "the end", false);
    const Tokenizer tokenizer = from(json);
    EXPECT_EQ(tokenizer.vocabulary_size(), 603);
    EXPECT_EQ(tokenizer.encode("<|a|><|b|><|a|>", SpecialText::kTokens),
              (std::vector<int32_t>{601, 600}));
    EXPECT_EQ(tokenizer.encode("the end"), (std::vector<int32_t>{602}));
    // A token that holds a place for cuts forbids them.
    EXPECT_EQ(tokenizer.cut("the end the end", 1).size(), 1U);
    EXPECT_EQ(tokenizer.added_token("<|a|>"), 600);
    EXPECT_EQ(tokenizer.added_token("<|c|>"), std::nullopt);
}

TEST(Tokenizer, ByteCountsAddUpToTheText) {
    const Tokenizer tokenizer = small_tokenizer();
    const std::vector<int32_t> sizes = tokenizer.text_bytes();
    const std::string text = random_text(8, 3000, 9);
    int64_t sum = 0;
    for (const int32_t id : tokenizer.encode(text)) sum += sizes.at(static_cast<size_t>(id));
    EXPECT_EQ(sum, static_cast<int64_t>(text.size()));
}

TEST(Tokenizer, SavesAndLoadsItself) {
    for (const SplitPattern pattern : {SplitPattern::kGpt2, SplitPattern::kLlama3}) {
        const TemporaryFolder folder;
        const Tokenizer tokenizer = small_tokenizer(pattern);
        tokenizer.save(folder / "tokenizer.json");
        const Tokenizer loaded = Tokenizer::load(folder / "tokenizer.json");
        EXPECT_EQ(loaded.fingerprint(), tokenizer.fingerprint());
        const std::string text = random_words(6, 1000);
        EXPECT_EQ(loaded.encode(text), tokenizer.encode(text));
        loaded.save(folder / "again.json");
        EXPECT_EQ(read_file(folder / "again.json"), read_file(folder / "tokenizer.json"));
    }
}

TEST(Tokenizer, ReadsMergesInBothForms) {
    Json json = small_json();
    const Tokenizer strings = from(json);
    for (Json& merge : json["model"]["merges"]) {
        const auto text = merge.get<std::string>();
        const size_t blank = text.find(' ');
        merge = Json::array({text.substr(0, blank), text.substr(blank + 1)});
    }
    const Tokenizer arrays = from(json);
    EXPECT_EQ(arrays.fingerprint(), strings.fingerprint());
    const std::string text = random_words(2, 1000);
    EXPECT_EQ(arrays.encode(text), strings.encode(text));
}

TEST(Tokenizer, IgnoresMergesWhereThePieceIsAToken) {
    Json json = small_json();
    // "zq" is a token that no merge leads to.
    json["model"]["vocab"]["zq"] = 600;
    EXPECT_EQ(from(json).encode("zq").size(), 2U);
    json["model"]["ignore_merges"] = true;
    EXPECT_EQ(from(json).encode("zq"), (std::vector<int32_t>{600}));
    EXPECT_EQ(from(json).encode("zqz").size(), 3U);
}

TEST(Tokenizer, FingerprintChangesWithWhatDeterminesIds) {
    const Json json = small_json();
    const uint64_t fingerprint = from(json).fingerprint();
    Json changed = json;
    changed["model"]["merges"].erase(changed["model"]["merges"].size() - 1);
    EXPECT_NE(from(changed).fingerprint(), fingerprint);
    changed = json;
    changed["pre_tokenizer"] = small_json(SplitPattern::kLlama3)["pre_tokenizer"];
    EXPECT_NE(from(changed).fingerprint(), fingerprint);
    changed = json;
    changed["post_processor"] = nullptr;
    EXPECT_EQ(from(changed).fingerprint(), fingerprint);
}

TEST(Tokenizer, RejectsWhatItDoesNotImplement) {
    const Json good = small_json();
    const auto rejects = [&](const char* pointer, const Json& value, std::string_view part) {
        Json json = good;
        json[Json::json_pointer(pointer)] = value;
        expect_usage_error([&] { from(json); }, {"test.json", part});
    };
    rejects("/normalizer", {{"type", "NFC"}}, "normalizer");
    rejects("/pre_tokenizer", nullptr, "pre_tokenizer");
    rejects("/pre_tokenizer", {{"type", "Metaspace"}}, "Metaspace");
    rejects("/pre_tokenizer/add_prefix_space", true, "add_prefix_space");
    rejects("/decoder/type", "Metaspace", "decoder");
    rejects("/model/type", "Unigram", "Unigram");
    rejects("/model/dropout", 0.1, "dropout");
    rejects("/model/continuing_subword_prefix", "##", "continuing_subword_prefix");
    rejects("/model/vocab/a", 1, "same id");
    rejects("/model/vocab/a", -1, "not in 0..");
    rejects("/model/vocab/a", int64_t{1} << 40, "not in 0..");
    rejects("/model/vocab/a", "x", "not an integer");
    rejects("/model/vocab/\u4E00", 1000, "not byte-level");
    rejects("/model/merges/0", "q", "not two tokens");
    rejects("/model/merges/0", "qq zz", "which is not there");
    rejects("/model/merges/0", Json::array({"a"}), "not two tokens");
    rejects("/added_tokens/0/lstrip", true, "lstrip");
    rejects("/added_tokens/0/id", 700, "700 in added_tokens");
    rejects("/added_tokens/0/content", "", "empty");
    rejects("/pre_tokenizer",
            {{"type", "Split"},
             {"pattern", {{"Regex", "(a"}}},
             {"behavior", "Isolated"},
             {"invert", false}},
            "ByteLevel");
    Json json = good;
    json["model"]["vocab"].erase("a");
    expect_usage_error([&] { from(json); }, {"test.json", "no token for the byte 0x61"});
    json = small_json(SplitPattern::kLlama3);
    json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a";
    expect_usage_error([&] { from(json); }, {"test.json", "'(a'", "parenthes"});
    json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "a*";
    expect_usage_error([&] { from(json); }, {"test.json", "empty text"});
    json["added_tokens"] = Json::array();
    json["pre_tokenizer"] = good["pre_tokenizer"];
    expect_usage_error([&] { from(json).end_of_text(); }, {"ends a document"});
}

TEST(Tokenizer, NamesMissingAndBrokenFiles) {
    const TemporaryFolder folder;
    expect_usage_error([&] { Tokenizer::load(folder / "absent.json"); },
                       {"absent.json", "No such"});
    expect_usage_error([&] { Tokenizer::load(folder.path()); }, {"it is a folder"});
    write_file(folder / "empty.json", "");
    expect_usage_error([&] { Tokenizer::load(folder / "empty.json"); }, {"empty.json", "lathe"});
    write_file(folder / "list.json", "[1, 2]");
    expect_usage_error([&] { Tokenizer::load(folder / "list.json"); }, {"not a JSON object"});
    EXPECT_THROW(small_tokenizer().decode(std::vector<int32_t>{600}), Error);
    EXPECT_THROW(small_tokenizer().decode(std::vector<int32_t>{-1}), Error);
}

/// A damaged file is either refused with one line or still a whole, lossless tokenizer.
TEST(Tokenizer, SurvivesDamagedFiles) {
    const std::string good = small_json().dump(1);
    const std::string text = random_text(1, 500, 9);
    std::mt19937_64 random(11);
    int refused = 0;
    for (int i = 0; i < 400; ++i) {
        std::string bad = good;
        if (i % 4 == 0) {
            bad.resize(random() % bad.size());
        } else {
            for (uint64_t n = 1 + random() % 4; n > 0; --n) {
                const size_t at = random() % bad.size();
                switch (random() % 4) {
                    case 0:
                        bad[at] = static_cast<char>(random() & 0xFF);
                        break;
                    case 1:
                        bad.erase(at, random() % 40);
                        break;
                    case 2:
                        bad.insert(at, bad.substr(random() % bad.size(), random() % 40));
                        break;
                    default:
                        bad[at] = "0123456789-{}[],:\"nullabc"[random() % 24];
                }
            }
        }
        try {
            const Tokenizer tokenizer = Tokenizer::from_json(bad, "bad.json");
            EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
        } catch (const UsageError& error) {
            EXPECT_TRUE(std::string_view(error.what()).starts_with("bad.json: ")) << error.what();
            ++refused;
        }
    }
    EXPECT_GT(refused, 200);
}

}  // namespace
}  // namespace lathe
