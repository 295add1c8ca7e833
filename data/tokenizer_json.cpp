#include "data/tokenizer_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "data/byte_level.h"
#include "data/pretokenizer.h"
#include "kernels/error.h"

namespace lathe {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxTokenId = int64_t{1} << 24;
constexpr std::string_view kExpected =
    "Lathe reads byte-level BPE as GPT-2, Llama 3 and BLOOM use it";

/// The value of a key, or null where the key is absent; `json` must be an object.
const Json& get(const Json& json, const char* key) {
    static const Json null;
    const auto found = json.find(key);
    return found == json.end() ? null : *found;
}

bool flag(const Json& json, const char* key, bool absent) {
    const Json& value = get(json, key);
    return value.is_null() ? absent : value.get<bool>();
}

std::string type_of(const Json& json) { return json.at("type").get<std::string>(); }

class Reader {
  public:
    Reader(const Json& root, std::string_view name) : root_(root), name_(name) {}

    TokenizerSpec read() {
        check(root_.is_object(), "is not a JSON object");
        check(get(root_, "normalizer").is_null(),
              "has a normalizer, which Lathe does not apply (it would lose bytes); set "
              "\"normalizer\" "
              "to null if your text needs none");
        read_pre_tokenizer(get(root_, "pre_tokenizer"), true);
        check(has_byte_level_, "has no ByteLevel pre-tokenizer; {}", kExpected);
        const Json& decoder = get(root_, "decoder");
        check(decoder.is_null() || type_of(decoder) == "ByteLevel",
              "has a decoder other than ByteLevel; {}", kExpected);
        read_added_tokens();
        read_model(root_.at("model"));
        return std::move(spec_);
    }

  private:
    template <typename... Args>
    void check(bool holds, fmt::format_string<Args...> text, Args&&... args) const {
        if (!holds) fail_usage("{}: {}", name_, fmt::format(text, std::forward<Args>(args)...));
    }

    void read_pre_tokenizer(const Json& json, bool outermost) {
        check(json.is_object(), "has no pre_tokenizer; {}", kExpected);
        const std::string type = type_of(json);
        check(!has_byte_level_, "has a pre-tokenizer after ByteLevel, which must be last");
        if (type == "Sequence" && outermost) {
            for (const Json& part : json.at("pretokenizers")) read_pre_tokenizer(part, false);
        } else if (type == "ByteLevel") {
            check(!flag(json, "add_prefix_space", true),
                  "has add_prefix_space, which would change the text; set it to false");
            if (flag(json, "use_regex", true)) {
                spec_.split_regexes.emplace_back(split_pattern_regex(SplitPattern::kGpt2));
            }
            has_byte_level_ = true;
        } else if (type == "Split") {
            const Json& regex = get(json.at("pattern"), "Regex");
            check(regex.is_string() && json.at("behavior") == "Isolated" &&
                      !flag(json, "invert", false),
                  "has a Split pre-tokenizer that is not an isolated regular expression; {}",
                  kExpected);
            spec_.split_regexes.push_back(regex.get<std::string>());
        } else if (type == "Digits") {
            spec_.split_regexes.emplace_back(flag(json, "individual_digits", false) ? R"(\p{N})"
                                                                                    : R"(\p{N}+)");
        } else {
            check(false, "has a pre-tokenizer of type {}; {}", type, kExpected);
        }
    }

    void read_added_tokens() {
        const Json& list = get(root_, "added_tokens");
        if (list.is_null()) return;
        check(list.is_array(), "added_tokens is not an array");
        for (const Json& json : list) {
            AddedToken token;
            const auto id = json.at("id").get<int64_t>();
            token.text = json.at("content").get<std::string>();
            token.special = flag(json, "special", false);
            check(!token.text.empty(), "added token {} is empty", id);
            for (const char* option : {"lstrip", "rstrip", "single_word"}) {
                check(!flag(json, option, false), "added token '{}' has {}; set it to false",
                      token.text, option);
            }
            token.id = add_token(id, token.text, token.text);
            check(added_.emplace(token.text, token.id).second, "added token '{}' is listed twice",
                  token.text);
            spec_.added_tokens.push_back(std::move(token));
        }
    }

    int32_t add_token(int64_t id, const std::string& text, std::string bytes) {
        check(id >= 0 && id < kMaxTokenId, "token '{}' has id {}, not in 0..{}", text, id,
              kMaxTokenId - 1);
        const auto index = static_cast<size_t>(id);
        if (index >= spec_.token_bytes.size()) spec_.token_bytes.resize(index + 1);
        check(spec_.token_bytes[index].empty(), "tokens '{}' and '{}' have the same id {}",
              spec_.token_bytes[index], text, id);
        spec_.token_bytes[index] = std::move(bytes);
        return static_cast<int32_t>(id);
    }

    void read_model(const Json& model) {
        check(model.is_object(), "model is not an object");
        check(get(model, "type").is_null() || type_of(model) == "BPE",
              "has a model of type {} instead of BPE", get(model, "type").dump());
        for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
            const Json& value = get(model, key);
            check(value.is_null() || value.dump() == R"("")", "has a model with {}; {}", key,
                  kExpected);
        }
        const Json& dropout = get(model, "dropout");
        check(dropout.is_null() || dropout.get<double>() == 0.0,
              "has a model with dropout; set it to null");
        spec_.ignore_merges = flag(model, "ignore_merges", false);
        read_vocabulary(model.at("vocab"));
        for (int byte = 0; byte < 256; ++byte) {
            const auto b = static_cast<uint8_t>(byte);
            const auto found = ids_.find(std::string(byte_level_character(b)));
            check(found != ids_.end(), "has no token for the byte 0x{:02X}; {}", byte, kExpected);
            spec_.byte_ids[b] = found->second;
            check(bytes_of(found->second) == std::string(1, static_cast<char>(byte)),
                  "gives the byte 0x{:02X} to an added token; {}", byte, kExpected);
        }
        read_merges(model.at("merges"));
    }

    void read_vocabulary(const Json& vocabulary) {
        check(vocabulary.is_object(), "model.vocab is not an object");
        ids_.reserve(vocabulary.size());
        for (const auto& [text, value] : vocabulary.items()) {
            check(value.is_number_integer(), "the id of token '{}' is not an integer", text);
            const auto id = value.get<int64_t>();
            const auto added = added_.find(text);
            if (added != added_.end()) {
                check(added->second == id,
                      "token '{}' has id {} in model.vocab, {} in added_tokens", text, id,
                      added->second);
                ids_.emplace(text, added->second);
                continue;
            }
            std::optional<std::string> bytes = from_byte_level(text);
            check(bytes.has_value() && !bytes->empty(), "token '{}' is not byte-level; {}", text,
                  kExpected);
            ids_.emplace(text, add_token(id, text, std::move(*bytes)));
        }
    }

    /// The two tokens of a merge, written "a b" or ["a", "b"]. Byte-level tokens hold no blanks.
    std::pair<std::string, std::string> merge_parts(const Json& merge, size_t rank) const {
        if (merge.is_string()) {
            const auto& text = merge.get_ref<const std::string&>();
            const size_t blank = text.find(' ');
            check(blank != std::string::npos && text.find(' ', blank + 1) == std::string::npos,
                  "merge {} '{}' is not two tokens", rank, text);
            return {text.substr(0, blank), text.substr(blank + 1)};
        }
        check(merge.is_array() && merge.size() == 2, "merge {} is not two tokens", rank);
        return {merge[0].get<std::string>(), merge[1].get<std::string>()};
    }

    const std::string& bytes_of(int32_t id) const {
        return spec_.token_bytes[static_cast<size_t>(id)];
    }

    void read_merges(const Json& merges) {
        check(merges.is_array(), "model.merges is not an array");
        spec_.merges.reserve(merges.size());
        for (size_t rank = 0; rank < merges.size(); ++rank) {
            const auto parts = merge_parts(merges[rank], rank);
            const std::string& left = parts.first;
            const std::string& right = parts.second;
            const auto id = [&](const std::string& token) {
                const auto found = ids_.find(token);
                check(found != ids_.end(), "merge {} '{} {}' needs token '{}', which is not there",
                      rank, left, right, token);
                return found->second;
            };
            const BpeMerge ids{id(left), id(right), id(left + right)};
            check(bytes_of(ids.result) == bytes_of(ids.left) + bytes_of(ids.right),
                  "merge {} '{} {}' gives an added token of other bytes", rank, left, right);
            spec_.merges.push_back(ids);
        }
    }

    const Json& root_;
    std::string_view name_;
    TokenizerSpec spec_;
    bool has_byte_level_ = false;
    std::unordered_map<std::string, int32_t> added_;
    std::unordered_map<std::string, int32_t> ids_;  ///< by the text in model.vocab
};

std::string json_string(std::string_view text) { return Json(text).dump(); }

}  // namespace

TokenizerSpec parse_tokenizer_json(std::string_view json, std::string_view name) {
    try {
        const Json root = Json::parse(json);
        return Reader(root, name).read();
    } catch (const Json::exception& error) {
        fail_usage(
            "{}: is not a tokenizer.json: {}; write it again with `lathe prepare` or copy it "
            "again",
            name, error.what());
    }
}

std::string write_tokenizer_json(std::span<const std::string> tokens, int64_t num_special,
                                 std::span<const BpeMerge> merges, bool gpt2_pattern,
                                 std::string_view split_regex) {
    const auto special = static_cast<size_t>(num_special);
    const auto text = [&](size_t id) {
        return id < special ? tokens[id] : to_byte_level(tokens[id]);
    };
    std::string json = "{\n\"version\": \"1.0\",\n\"truncation\": null,\n\"padding\": null,\n";
    json += "\"added_tokens\": [";
    for (size_t id = 0; id < special; ++id) {
        json += fmt::format(
            "{}\n{{\"id\": {}, \"content\": {}, \"single_word\": false, \"lstrip\": false, "
            "\"rstrip\": false, \"normalized\": false, \"special\": true}}",
            id == 0 ? "" : ",", id, json_string(tokens[id]));
    }
    json += "\n],\n\"normalizer\": null,\n\"pre_tokenizer\": ";
    const auto byte_level = [](bool use_regex) {
        return fmt::format(
            "{{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
            "\"use_regex\": {}}}",
            use_regex);
    };
    json += gpt2_pattern
                ? byte_level(true)
                : fmt::format(
                      "{{\"type\": \"Sequence\", \"pretokenizers\": [{{\"type\": \"Split\", "
                      "\"pattern\": {{\"Regex\": {}}}, \"behavior\": \"Isolated\", "
                      "\"invert\": false}}, {}]}}",
                      json_string(split_regex), byte_level(false));
    json += ",\n\"post_processor\": " + byte_level(true) + ",\n\"decoder\": " + byte_level(true);
    json +=
        ",\n\"model\": {\n\"type\": \"BPE\",\n\"dropout\": null,\n\"unk_token\": null,\n"
        "\"continuing_subword_prefix\": null,\n\"end_of_word_suffix\": null,\n"
        "\"fuse_unk\": false,\n\"byte_fallback\": false,\n\"ignore_merges\": false,\n\"vocab\": {";
    for (size_t id = 0; id < tokens.size(); ++id) {
        json += fmt::format("{}\n{}: {}", id == 0 ? "" : ",", json_string(text(id)), id);
    }
    json += "\n},\n\"merges\": [";
    for (size_t rank = 0; rank < merges.size(); ++rank) {
        const std::string left = text(static_cast<size_t>(merges[rank].left));
        const std::string right = text(static_cast<size_t>(merges[rank].right));
        json += fmt::format("{}\n{}", rank == 0 ? "" : ",", json_string(left + " " + right));
    }
    json += "\n]\n}\n}\n";
    return json;
}

}  // namespace lathe
