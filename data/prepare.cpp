#include "data/prepare.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/bpe_trainer.h"
#include "data/tokenizer.h"
#include "kernels/error.h"
#include "kernels/files.h"
#include "kernels/random.h"

namespace lathe {
namespace {

constexpr size_t kBatchBytes = size_t{32} << 20;
constexpr int64_t kPartBytes = 128 * 1024;
constexpr std::array<const char*, 2> kSplits = {"train", "validation"};

/// Gathers pieces and hands them on in batches, large enough to keep all threads busy.
template <typename Flush>
class Batcher {
  public:
    explicit Batcher(Flush flush) : flush_(std::move(flush)) {}

    void add(const CorpusPiece& piece) {
        bytes_ += piece.text.size();
        const std::string& text = texts_.emplace_back(piece.text);
        pieces_.push_back({text, piece.validation, piece.ends_document});
        if (bytes_ >= kBatchBytes) flush();
    }

    void flush() {
        flush_(pieces_);
        pieces_.clear();
        texts_.clear();
        bytes_ = 0;
    }

  private:
    Flush flush_;
    std::deque<std::string> texts_;  // a deque keeps its strings where they are
    std::vector<CorpusPiece> pieces_;
    size_t bytes_ = 0;
};

class Preparation {
  public:
    explicit Preparation(const PrepareOptions& options)
        : options_(options), output_(without_slash(options.output)) {}

    PrepareResult run() {
        LATHE_CHECK_USAGE(corpus_bytes(options_.corpus) > 0,
                          "{}: the input is empty; give files with text",
                          options_.corpus.inputs.front().string());
        if (options_.tokenizer) tokenizer_ = Tokenizer::load(*options_.tokenizer);
        info_.recipe = recipe();
        if (std::optional<DatasetInfo> finished = finished_work()) return {*finished, true};
        FolderWriter folder(output_);
        if (!tokenizer_) tokenizer_ = train();
        tokenizer_->save(folder.path() / "tokenizer.json");
        info_.vocabulary_size = tokenizer_->vocabulary_size();
        info_.tokenizer_fingerprint = fmt::format("{:016x}", tokenizer_->fingerprint());
        encode(folder.path());
        info_.unigram_entropy = unigram_entropy();
        write_dataset_info(folder.path(), info_);
        folder.finish();
        return {info_, false};
    }

  private:
    static std::filesystem::path without_slash(const std::filesystem::path& path) {
        LATHE_CHECK_USAGE(!path.empty(), "the output folder has no name; give one");
        const std::filesystem::path normal = std::filesystem::absolute(path).lexically_normal();
        return normal.has_filename() ? normal : normal.parent_path();
    }

    std::string recipe() const {
        nlohmann::ordered_json inputs = nlohmann::ordered_json::array();
        for (const std::filesystem::path& path : options_.corpus.inputs) {
            const auto changed = std::filesystem::last_write_time(path).time_since_epoch();
            inputs.push_back({{"path", std::filesystem::absolute(path).string()},
                              {"bytes", std::filesystem::file_size(path)},
                              {"changed", changed.count()}});
        }
        nlohmann::ordered_json recipe = {
            {"inputs", inputs},
            {"format", static_cast<int>(options_.corpus.format)},
            {"validation_fraction", options_.corpus.validation_fraction},
            {"seed", options_.corpus.seed},
            {"tokens_per_shard", options_.tokens_per_shard}};
        if (tokenizer_) {
            recipe["tokenizer"] = fmt::format("{:016x}", tokenizer_->fingerprint());
        } else {
            recipe["vocabulary_size"] = options_.vocabulary_size;
            recipe["pattern"] = std::string(split_pattern_regex(options_.pattern));
            recipe["tokenizer_bytes"] = options_.tokenizer_bytes;
        }
        return recipe.dump();
    }

    /// What `output` holds where that is this very work; nothing where it is absent or empty.
    std::optional<DatasetInfo> finished_work() const {
        if (!std::filesystem::exists(output_)) return std::nullopt;
        LATHE_CHECK_USAGE(std::filesystem::is_directory(output_),
                          "{}: is not a folder; choose another --output", output_.string());
        if (std::filesystem::is_empty(output_)) return std::nullopt;
        if (std::filesystem::exists(output_ / "dataset.json")) {
            const DatasetInfo info = read_dataset_info(output_);
            if (info.recipe == info_.recipe) {
                for (const auto& [name, split] : info.splits) {
                    if (!split.shards.empty()) TokenDataset(output_, name);
                }
                return info;
            }
        }
        fail_usage("{}: already holds other work; choose another --output or remove it",
                   output_.string());
    }

    Tokenizer train() const {
        BpeTrainerOptions options;
        options.vocabulary_size = options_.vocabulary_size;
        options.pattern = options_.pattern;
        options.num_threads = options_.num_threads;
        BpeTrainer trainer(options);
        const double keep = static_cast<double>(options_.tokenizer_bytes) /
                            static_cast<double>(corpus_bytes(options_.corpus));
        Batcher batcher([&](const std::vector<CorpusPiece>& pieces) {
            std::vector<std::string_view> texts;
            for (const CorpusPiece& piece : pieces) texts.push_back(piece.text);
            trainer.add(texts);
        });
        uint64_t index = 0;
        read_corpus(options_.corpus, [&](const CorpusPiece& piece) {
            const uint32_t random = philox4x32(options_.corpus.seed, index++, 1)[0];
            const bool sampled = static_cast<double>(random) < keep * 4294967296.0;
            if (!piece.validation && sampled) batcher.add(piece);
        });
        batcher.flush();
        return trainer.finish();
    }

    void encode(const std::filesystem::path& folder) {
        std::array<std::optional<TokenShardWriter>, 2> writers;
        for (size_t i = 0; i < 2; ++i) {
            writers[i].emplace(folder, kSplits[i], info_.vocabulary_size,
                               options_.tokens_per_shard);
            counts_[i].assign(static_cast<size_t>(info_.vocabulary_size), 0);
            info_.splits[kSplits[i]] = {};
        }
        const int32_t end_of_text = tokenizer_->end_of_text();
        const auto append = [&](size_t split, std::span<const int32_t> ids) {
            writers[split]->append(ids);
            for (const int32_t id : ids) ++counts_[split][static_cast<size_t>(id)];
        };
        Batcher batcher([&](const std::vector<CorpusPiece>& pieces) {
            std::vector<std::string_view> parts;
            std::vector<size_t> ends;  // of each piece's parts
            for (const CorpusPiece& piece : pieces) {
                const auto cut = tokenizer_->cut(piece.text, kPartBytes);
                parts.insert(parts.end(), cut.begin(), cut.end());
                ends.push_back(parts.size());
            }
            const auto ids = tokenizer_->encode_batch(parts, options_.num_threads);
            size_t part = 0;
            for (size_t i = 0; i < pieces.size(); ++i) {
                const size_t split = pieces[i].validation ? 1 : 0;
                for (; part < ends[i]; ++part) append(split, ids[part]);
                SplitInfo& info = info_.splits[kSplits[split]];
                info.num_bytes += static_cast<int64_t>(pieces[i].text.size());
                if (!pieces[i].ends_document) continue;
                append(split, std::span(&end_of_text, 1));
                ++info.num_documents;
            }
        });
        read_corpus(options_.corpus, [&](const CorpusPiece& piece) { batcher.add(piece); });
        batcher.flush();
        for (size_t i = 0; i < 2; ++i) {
            SplitInfo& info = info_.splits[kSplits[i]];
            info.num_tokens = writers[i]->num_tokens();
            info.shards = writers[i]->finish();
        }
        check_splits();
    }

    void check_splits() const {
        const int64_t train_bytes = info_.splits.at("train").num_bytes;
        const int64_t validation_bytes = info_.splits.at("validation").num_bytes;
        const double fraction = options_.corpus.validation_fraction;
        LATHE_CHECK_USAGE(train_bytes + validation_bytes > 0,
                          "{}: the input holds no text; give files with text",
                          options_.corpus.inputs.front().string());
        LATHE_CHECK_USAGE(train_bytes > 0,
                          "validation fraction {} leaves no training text; lower it or give more "
                          "documents",
                          fraction);
        LATHE_CHECK_USAGE(fraction == 0.0 || validation_bytes > 0,
                          "validation fraction {} holds out none of {} documents; raise it, give "
                          "more documents, or set it to 0",
                          fraction, info_.splits.at("train").num_documents);
    }

    /// -sum_v q(v) ln p(v) over validation frequencies q and training frequencies p, one added to
    /// each count of the latter so that no token is impossible.
    double unigram_entropy() const {
        const auto train_total = static_cast<double>(info_.splits.at("train").num_tokens);
        const auto total = static_cast<double>(info_.splits.at("validation").num_tokens);
        double sum = 0.0;
        for (size_t id = 0; id < counts_[1].size(); ++id) {
            if (counts_[1][id] == 0) continue;
            const double p = (static_cast<double>(counts_[0][id]) + 1.0) /
                             (train_total + static_cast<double>(info_.vocabulary_size));
            sum -= static_cast<double>(counts_[1][id]) / total * std::log(p);
        }
        return sum;
    }

    const PrepareOptions& options_;
    std::filesystem::path output_;
    std::optional<Tokenizer> tokenizer_;
    DatasetInfo info_;
    std::array<std::vector<int64_t>, 2> counts_;  // of each token, by split
};

}  // namespace

PrepareResult prepare(const PrepareOptions& options) { return Preparation(options).run(); }

}  // namespace lathe
