#include "data/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <queue>
#include <set>
#include <utility>

#include "data/byte_level.h"
#include "data/parallel_for.h"
#include "data/tokenizer_json.h"
#include "kernels/error.h"

namespace lathe {
namespace {

constexpr int64_t kPartBytes = 256 * 1024;

/// Learns the merges of one set of counted words. A step costs only the words that hold the merged
/// pair: a pair's occurrences are listed once, when it first appears, and its count is kept
/// current, while the heap's counts may be out of date and are checked when they surface.
class MergeLearner {
  public:
    MergeLearner(std::vector<std::string> tokens, size_t num_special)
        : tokens_(std::move(tokens)), num_special_(num_special) {
        for (size_t id = 0; id < tokens_.size(); ++id) {
            ids_.emplace(written(id), static_cast<int32_t>(id));
        }
        for (int byte = 0; byte < 256; ++byte) {
            const auto b = static_cast<uint8_t>(byte);
            byte_ids_[b] = ids_.at(std::string(byte_level_character(b)));
        }
    }

    void add_word(std::string_view word, int64_t count) {
        std::vector<int32_t> symbols(word.size());
        for (size_t i = 0; i < word.size(); ++i) {
            symbols[i] = byte_ids_[static_cast<uint8_t>(word[i])];
        }
        const auto index = static_cast<int32_t>(words_.size());
        for (size_t i = 0; i + 1 < symbols.size(); ++i) {
            change(symbols[i], symbols[i + 1], count, index);
        }
        words_.push_back({std::move(symbols), count});
    }

    void learn(size_t vocabulary_size) {
        push_changed();
        while (tokens_.size() < vocabulary_size && !heap_.empty()) {
            Candidate top = heap_.top();
            heap_.pop();
            const int64_t count = counts_.at(key(top.left, top.right));
            if (count < 1) continue;
            if (count != top.count) {
                top.count = count;
                heap_.push(top);
                continue;
            }
            merge(top);
        }
    }

    const std::vector<std::string>& tokens() const { return tokens_; }
    const std::vector<BpeMerge>& merges() const { return merges_; }

  private:
    struct Word {
        std::vector<int32_t> symbols;
        int64_t count;
    };
    struct Candidate {
        int64_t count;
        int32_t left;
        int32_t right;
        size_t places;  // index in places_
        bool operator<(const Candidate& other) const {
            if (count != other.count) return count < other.count;
            if (left != other.left) return left > other.left;
            if (right != other.right) return right > other.right;
            return places > other.places;
        }
    };

    static uint64_t key(int32_t left, int32_t right) {
        return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) |
               static_cast<uint32_t>(right);
    }

    std::string written(size_t id) const {
        return id < num_special_ ? tokens_[id] : to_byte_level(tokens_[id]);
    }

    /// Adds to a pair's count and, where it became more frequent, lists the word.
    void change(int32_t left, int32_t right, int64_t amount, int32_t word) {
        counts_[key(left, right)] += amount;
        if (amount <= 0) return;
        std::vector<int32_t>& places = changed_[key(left, right)];
        if (places.empty() || places.back() != word) places.push_back(word);
    }

    void push_changed() {
        for (auto& [pair, places] : changed_) {
            const int64_t count = counts_.at(pair);
            if (count < 1) continue;
            heap_.push({count, static_cast<int32_t>(pair >> 32),
                        static_cast<int32_t>(pair & 0xFFFFFFFF), places_.size()});
            places_.push_back(std::move(places));
        }
        changed_.clear();
    }

    void merge(const Candidate& pair) {
        // Two pairs may spell the same token: it keeps its first id, and both merges lead to it.
        std::string bytes =
            tokens_[static_cast<size_t>(pair.left)] + tokens_[static_cast<size_t>(pair.right)];
        const auto [found, is_new] =
            ids_.emplace(to_byte_level(bytes), static_cast<int32_t>(tokens_.size()));
        const int32_t result = found->second;
        if (is_new) tokens_.push_back(std::move(bytes));
        merges_.push_back({pair.left, pair.right, result});
        const std::vector<int32_t> places = std::move(places_[pair.places]);
        for (const int32_t word : places) merge_in_word(word, pair.left, pair.right, result);
        push_changed();
    }

    void merge_in_word(int32_t index, int32_t left, int32_t right, int32_t result) {
        Word& word = words_[static_cast<size_t>(index)];
        std::vector<int32_t>& symbols = word.symbols;
        size_t out = 0;
        for (size_t in = 0; in < symbols.size(); ++in, ++out) {
            if (in + 1 == symbols.size() || symbols[in] != left || symbols[in + 1] != right) {
                symbols[out] = symbols[in];
                continue;
            }
            if (out > 0) {
                change(symbols[out - 1], left, -word.count, index);
                change(symbols[out - 1], result, word.count, index);
            }
            if (in + 2 < symbols.size()) {
                change(right, symbols[in + 2], -word.count, index);
                change(result, symbols[in + 2], word.count, index);
            }
            symbols[out] = result;
            ++in;
        }
        symbols.resize(out);
    }

    std::vector<std::string> tokens_;
    size_t num_special_;
    std::unordered_map<std::string, int32_t> ids_;  // by the text in tokenizer.json
    std::array<int32_t, 256> byte_ids_{};
    std::vector<Word> words_;
    std::unordered_map<uint64_t, int64_t> counts_;
    std::unordered_map<uint64_t, std::vector<int32_t>> changed_;
    std::vector<std::vector<int32_t>> places_;
    std::priority_queue<Candidate> heap_;
    std::vector<BpeMerge> merges_;
};

}  // namespace

BpeTrainer::BpeTrainer(BpeTrainerOptions options)
    : options_(std::move(options)),
      pretokenizer_({std::string(split_pattern_regex(options_.pattern))}) {
    std::set<std::string> seen;
    for (const std::string& token : options_.special_tokens) {
        LATHE_CHECK_USAGE(!token.empty(), "a special token is empty; give it a text");
        LATHE_CHECK_USAGE(valid_utf8_prefix(token) == token.size(),
                          "a special token is not UTF-8; give it a text");
        LATHE_CHECK_USAGE(seen.insert(token).second, "special token '{}' is given twice", token);
        for (int byte = 0; byte < 256; ++byte) {
            LATHE_CHECK_USAGE(token != byte_level_character(static_cast<uint8_t>(byte)),
                              "special token '{}' is taken by a byte; choose a longer one", token);
        }
    }
    const auto least = static_cast<int64_t>(256 + options_.special_tokens.size());
    LATHE_CHECK_USAGE(options_.vocabulary_size >= least,
                      "vocabulary size {} cannot hold the 256 bytes and {} special tokens; give at "
                      "least {}",
                      options_.vocabulary_size, options_.special_tokens.size(), least);
}

void BpeTrainer::add(std::span<const std::string_view> texts) {
    std::vector<std::string_view> parts;
    for (const std::string_view text : texts) pretokenizer_.cut(text, kPartBytes, parts);
    const auto num_parts = static_cast<int64_t>(parts.size());
    const int64_t num_threads = resolve_threads(options_.num_threads, num_parts);
    std::vector<Pretokenizer::Matcher> matchers;
    for (int64_t i = 0; i < num_threads; ++i) matchers.emplace_back(pretokenizer_);
    std::vector<Counts> counts(static_cast<size_t>(num_threads));
    parallel_for(num_threads, num_parts, [&](int64_t thread, int64_t part) {
        Counts& own = counts[static_cast<size_t>(thread)];
        matchers[static_cast<size_t>(thread)].split(parts[static_cast<size_t>(part)],
                                                    [&](std::string_view word) {
                                                        const auto found = own.find(word);
                                                        if (found != own.end()) {
                                                            ++found->second;
                                                        } else {
                                                            own.emplace(word, 1);
                                                        }
                                                    });
    });
    for (const Counts& own : counts) {
        for (const auto& [word, count] : own) counts_[word] += count;
    }
}

Tokenizer BpeTrainer::finish() const {
    std::vector<std::string> tokens = options_.special_tokens;
    for (const uint8_t byte : byte_level_alphabet()) {
        tokens.emplace_back(1, static_cast<char>(byte));
    }
    MergeLearner learner(std::move(tokens), options_.special_tokens.size());
    // In sorted order, so that nothing can depend on how threads filled the map.
    std::vector<std::pair<std::string_view, int64_t>> words(counts_.begin(), counts_.end());
    std::ranges::sort(words);
    for (const auto& [word, count] : words) learner.add_word(word, count);
    learner.learn(static_cast<size_t>(options_.vocabulary_size));
    return Tokenizer::from_json(
        write_tokenizer_json(learner.tokens(), static_cast<int64_t>(options_.special_tokens.size()),
                             learner.merges(), options_.pattern == SplitPattern::kGpt2,
                             split_pattern_regex(options_.pattern)),
        "the trained tokenizer");
}

Tokenizer train_tokenizer(std::span<const std::string_view> texts, BpeTrainerOptions options) {
    BpeTrainer trainer(std::move(options));
    trainer.add(texts);
    return trainer.finish();
}

}  // namespace lathe
