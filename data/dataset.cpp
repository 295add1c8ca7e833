#include "data/dataset.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/error.h"

namespace lathe {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr std::string_view kMend = "write the folder again with `lathe prepare`";

SplitInfo split_from_json(const OrderedJson& json) {
    SplitInfo split{json.at("documents").get<int64_t>(),
                    json.at("bytes").get<int64_t>(),
                    json.at("tokens").get<int64_t>(),
                    {}};
    for (const OrderedJson& shard : json.at("shards")) {
        split.shards.push_back(
            {shard.at("file").get<std::string>(), shard.at("tokens").get<int64_t>()});
    }
    return split;
}

OrderedJson split_to_json(const SplitInfo& split) {
    OrderedJson shards = OrderedJson::array();
    for (const ShardInfo& shard : split.shards) {
        shards.push_back(OrderedJson{{"file", shard.name}, {"tokens", shard.num_tokens}});
    }
    return OrderedJson{{"documents", split.num_documents},
                       {"bytes", split.num_bytes},
                       {"tokens", split.num_tokens},
                       {"shards", shards}};
}

}  // namespace

DatasetInfo read_dataset_info(const std::filesystem::path& folder) {
    const std::filesystem::path path = folder / "dataset.json";
    LATHE_CHECK_USAGE(std::filesystem::exists(path),
                      "{}: is not a prepared data folder: it has no dataset.json; make one with "
                      "`lathe prepare --input FILE --output {}`",
                      folder.string(), folder.string());
    const MappedFile file(path);
    try {
        const OrderedJson json = OrderedJson::parse(file.text());
        const auto version = json.at("version").get<int>();
        LATHE_CHECK_USAGE(version == kVersion, "{}: version is {}, Lathe reads {}; {}",
                          path.string(), version, kVersion, kMend);
        DatasetInfo info;
        info.vocabulary_size = json.at("vocabulary_size").get<int64_t>();
        LATHE_CHECK_USAGE(info.vocabulary_size > 0, "{}: vocabulary_size is {}; {}", path.string(),
                          info.vocabulary_size, kMend);
        info.tokenizer_fingerprint = json.at("tokenizer_fingerprint").get<std::string>();
        info.unigram_entropy = json.at("unigram_entropy").get<double>();
        info.recipe = json.at("recipe").dump();
        for (const auto& [name, split] : json.at("splits").items()) {
            info.splits[name] = split_from_json(split);
        }
        return info;
    } catch (const OrderedJson::exception& error) {
        fail_usage("{}: is damaged: {}; {}", path.string(), error.what(), kMend);
    }
}

void write_dataset_info(const std::filesystem::path& folder, const DatasetInfo& info) {
    OrderedJson splits = OrderedJson::object();
    for (const auto& [name, split] : info.splits) splits[name] = split_to_json(split);
    const OrderedJson json = {{"version", kVersion},
                              {"vocabulary_size", info.vocabulary_size},
                              {"tokenizer_fingerprint", info.tokenizer_fingerprint},
                              {"unigram_entropy", info.unigram_entropy},
                              {"splits", splits},
                              {"recipe", OrderedJson::parse(info.recipe)}};
    write_file(folder / "dataset.json", json.dump(2) + "\n");
}

TokenDataset::TokenDataset(const std::filesystem::path& folder, std::string_view split)
    : folder_(folder), split_(split) {
    const DatasetInfo info = read_dataset_info(folder);
    const auto found = info.splits.find(split_);
    LATHE_CHECK_USAGE(found != info.splits.end() && !found->second.shards.empty(),
                      "{}: has no {} tokens; {}", folder.string(), split_,
                      found != info.splits.end() && split_ == "validation"
                          ? "prepare the text with a --validation-fraction above 0"
                          : kMend);
    vocabulary_size_ = info.vocabulary_size;
    num_bytes_ = found->second.num_bytes;
    starts_ = {0};
    for (const ShardInfo& expected : found->second.shards) {
        const TokenShard& shard = shards_.emplace_back(folder / expected.name);
        LATHE_CHECK_USAGE(shard.num_tokens() == expected.num_tokens,
                          "{}: holds {} tokens, dataset.json says {}; {}", shard.path().string(),
                          shard.num_tokens(), expected.num_tokens, kMend);
        starts_.push_back(starts_.back() + shard.num_tokens());
    }
    LATHE_CHECK_USAGE(num_tokens() == found->second.num_tokens,
                      "{}: its {} shards hold {} tokens, dataset.json says {}; {}", folder.string(),
                      split_, num_tokens(), found->second.num_tokens, kMend);
}

void TokenDataset::copy(int64_t begin, std::span<int32_t> tokens) const {
    const auto count = static_cast<int64_t>(tokens.size());
    LATHE_CHECK(begin >= 0 && begin <= num_tokens() && count <= num_tokens() - begin,
                "{}: {} tokens {}+{} of {}", folder_.string(), split_, begin, count, num_tokens());
    const auto after = std::ranges::upper_bound(starts_, begin);
    auto index = static_cast<size_t>(after - starts_.begin()) - 1;
    while (!tokens.empty()) {
        const int64_t in_shard =
            std::min(static_cast<int64_t>(tokens.size()), starts_[index + 1] - begin);
        shards_[index].copy(begin - starts_[index], tokens.first(static_cast<size_t>(in_shard)),
                            vocabulary_size_);
        tokens = tokens.subspan(static_cast<size_t>(in_shard));
        begin += in_shard;
        ++index;
    }
}

uint64_t TokenDataset::sample_fingerprint() const {
    constexpr int64_t kBlocks = 64;
    constexpr int64_t kBlockTokens = 16;
    std::vector<int32_t> tokens(
        static_cast<size_t>(std::min(kBlockTokens, num_tokens() / kBlocks + 1)));
    const auto last = num_tokens() - static_cast<int64_t>(tokens.size());
    uint64_t hash = 0xCBF29CE484222325;  // FNV-1a
    for (int64_t block = 0; block < kBlocks; ++block) {
        copy(last / (kBlocks - 1) * block, tokens);
        for (const int32_t token : tokens) {
            hash = (hash ^ static_cast<uint64_t>(token)) * 0x100000001B3;
        }
    }
    return hash;
}

}  // namespace lathe
