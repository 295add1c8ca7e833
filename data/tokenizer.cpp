#include "data/tokenizer.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "data/bpe.h"
#include "data/parallel_for.h"
#include "data/pretokenizer.h"
#include "data/tokenizer_json.h"
#include "data/word_cache.h"
#include "kernels/error.h"
#include "kernels/files.h"

namespace lathe {
namespace {

constexpr int64_t kParallelPartBytes = 128 * 1024;

uint64_t spec_fingerprint(const TokenizerSpec& spec) {
    uint64_t hash = 0xCBF29CE484222325;  // FNV-1a
    const auto byte = [&](uint8_t value) { hash = (hash ^ value) * 0x100000001B3; };
    const auto number = [&](uint64_t value) {
        for (int shift = 0; shift < 64; shift += 8) byte(static_cast<uint8_t>(value >> shift));
    };
    const auto text = [&](std::string_view value) {
        number(value.size());
        for (const char c : value) byte(static_cast<uint8_t>(c));
    };
    number(spec.token_bytes.size());
    for (const std::string& token : spec.token_bytes) text(token);
    for (const BpeMerge& merge : spec.merges) {
        number((static_cast<uint64_t>(merge.left) << 32) | static_cast<uint64_t>(merge.right));
    }
    for (const AddedToken& token : spec.added_tokens) {
        number(static_cast<uint64_t>(token.id) * 2 + (token.special ? 1 : 0));
    }
    for (const std::string& regex : spec.split_regexes) text(regex);
    number(spec.ignore_merges ? 1 : 0);
    return hash;
}

}  // namespace

/// The tables, and the per-thread states that wait for the next call.
struct Tokenizer::Impl {
    /// What one thread needs to encode.
    struct Encoder {
        explicit Encoder(const Pretokenizer& pretokenizer) : matcher(pretokenizer) {}
        Pretokenizer::Matcher matcher;
        WordCache cache;
    };

    /// Lends an encoder, so that its cache is still warm in the next call.
    class Lease {
      public:
        explicit Lease(const Impl& impl) : impl_(impl) {
            const std::lock_guard lock(impl_.mutex);
            if (!impl_.idle.empty()) {
                encoder_ = std::move(impl_.idle.back());
                impl_.idle.pop_back();
            }
        }
        ~Lease() {
            if (encoder_ == nullptr) return;
            const std::lock_guard lock(impl_.mutex);
            impl_.idle.push_back(std::move(encoder_));
        }
        Lease(const Lease&) = delete;
        Lease& operator=(const Lease&) = delete;
        Encoder& operator*() {
            if (encoder_ == nullptr) encoder_ = std::make_unique<Encoder>(impl_.pretokenizer);
            return *encoder_;
        }

      private:
        const Impl& impl_;
        std::unique_ptr<Encoder> encoder_;
    };

    Impl(std::string source, TokenizerSpec parsed)
        : json(std::move(source)),
          spec(std::move(parsed)),
          pretokenizer(spec.split_regexes),
          merges(spec.byte_ids, spec.merges) {
        for (const AddedToken& token : spec.added_tokens) {
            const auto first = static_cast<uint8_t>(token.text[0]);
            starts[1][first] = true;
            starts[0][first] = starts[0][first] || !token.special;
            may_cut_added = may_cut_added && !crosses_cut(token.text);
        }
        if (!spec.ignore_merges) return;
        for (size_t id = 0; id < spec.token_bytes.size(); ++id) {
            const std::string& bytes = spec.token_bytes[id];
            if (!bytes.empty()) whole_tokens.emplace(bytes, static_cast<int32_t>(id));
        }
        for (const AddedToken& token : spec.added_tokens) whole_tokens.erase(token.text);
    }

    static bool crosses_cut(std::string_view text) {
        for (size_t i = 0; i + 1 < text.size(); ++i) {
            if (Pretokenizer::cuts_at(text[i], text[i + 1])) return true;
        }
        return false;
    }

    /// The longest added token that `text` starts with, or null.
    const AddedToken* added_at(std::string_view text, bool special) const {
        const AddedToken* best = nullptr;
        for (const AddedToken& token : spec.added_tokens) {
            if ((special || !token.special) && text.starts_with(token.text) &&
                (best == nullptr || token.text.size() > best->text.size())) {
                best = &token;
            }
        }
        return best;
    }

    void encode(Encoder& encoder, std::string_view text, bool special,
                std::vector<int32_t>& ids) const;
    void encode_plain(Encoder& encoder, std::string_view text, std::vector<int32_t>& ids) const;
    void encode_piece(std::string_view piece, std::vector<int32_t>& ids) const;

    std::string json;
    TokenizerSpec spec;
    Pretokenizer pretokenizer;
    BpeMerges merges;
    /// First bytes of added tokens: of those always found, and with special tokens.
    std::array<std::array<bool, 256>, 2> starts{};
    bool may_cut_added = true;
    std::unordered_map<std::string_view, int32_t> whole_tokens;  ///< with ignore_merges
    mutable std::mutex mutex;
    mutable std::vector<std::unique_ptr<Encoder>> idle;
};

void Tokenizer::Impl::encode(Encoder& encoder, std::string_view text, bool special,
                             std::vector<int32_t>& ids) const {
    const auto& first = starts[special ? 1 : 0];
    if (std::ranges::find(first, true) == first.end()) {
        encode_plain(encoder, text, ids);
        return;
    }
    size_t plain = 0;
    for (size_t at = 0; at < text.size();) {
        const AddedToken* token =
            first[static_cast<uint8_t>(text[at])] ? added_at(text.substr(at), special) : nullptr;
        if (token == nullptr) {
            ++at;
            continue;
        }
        encode_plain(encoder, text.substr(plain, at - plain), ids);
        ids.push_back(token->id);
        at += token->text.size();
        plain = at;
    }
    encode_plain(encoder, text.substr(plain), ids);
}

void Tokenizer::Impl::encode_plain(Encoder& encoder, std::string_view text,
                                   std::vector<int32_t>& ids) const {
    const char* end = text.data() + text.size();
    encoder.matcher.split(text, [&](std::string_view piece) {
        if (piece.size() > WordCache::kMaxBytes) {
            encode_piece(piece, ids);
            return;
        }
        const auto key = WordCache::key_of(piece, static_cast<size_t>(end - piece.data()));
        WordCache::Entry& entry = encoder.cache.slot(key);
        if (entry.key == key) {
            for (size_t i = 0; i < WordCache::kMaxIds && entry.ids[i] >= 0; ++i) {
                ids.push_back(entry.ids[i]);
            }
            return;
        }
        const size_t before = ids.size();
        encode_piece(piece, ids);
        const size_t count = ids.size() - before;
        if (count > WordCache::kMaxIds) return;
        entry.key = key;
        entry.ids.fill(-1);
        std::copy_n(ids.begin() + static_cast<ptrdiff_t>(before), count, entry.ids.begin());
    });
}

void Tokenizer::Impl::encode_piece(std::string_view piece, std::vector<int32_t>& ids) const {
    if (spec.ignore_merges) {
        const auto found = whole_tokens.find(piece);
        if (found != whole_tokens.end()) {
            ids.push_back(found->second);
            return;
        }
    }
    merges.encode(piece, ids);
}

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
    return from_json(read_file(path), path.string());
}

Tokenizer Tokenizer::from_json(std::string json, std::string_view name) {
    TokenizerSpec spec = parse_tokenizer_json(json, name);
    try {
        return Tokenizer(std::make_shared<const Impl>(std::move(json), std::move(spec)));
    } catch (const UsageError& error) {  // of an expression that PCRE2 refuses
        fail_usage("{}: {}", name, error.what());
    }
}

void Tokenizer::save(const std::filesystem::path& path) const { write_file(path, impl_->json); }

std::vector<int32_t> Tokenizer::encode(std::string_view text, SpecialText special) const {
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 3 + 1);
    Impl::Lease encoder(*impl_);
    impl_->encode(*encoder, text, special == SpecialText::kTokens, ids);
    return ids;
}

std::vector<std::vector<int32_t>> Tokenizer::encode_batch(std::span<const std::string_view> texts,
                                                          int num_threads,
                                                          SpecialText special) const {
    const auto count = static_cast<int64_t>(texts.size());
    std::vector<std::vector<int32_t>> ids(texts.size());
    parallel_for(resolve_threads(num_threads, count), count, [&](int64_t, int64_t item) {
        const auto index = static_cast<size_t>(item);
        ids[index] = encode(texts[index], special);
    });
    return ids;
}

std::vector<int32_t> Tokenizer::encode_parallel(std::string_view text, int num_threads,
                                                SpecialText special) const {
    const std::vector<std::string_view> parts = cut(text, kParallelPartBytes);
    const std::vector<std::vector<int32_t>> part_ids = encode_batch(parts, num_threads, special);
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 3 + 1);
    for (const std::vector<int32_t>& part : part_ids)
        ids.insert(ids.end(), part.begin(), part.end());
    return ids;
}

std::vector<std::string_view> Tokenizer::cut(std::string_view text, int64_t part_bytes) const {
    std::vector<std::string_view> parts;
    if (impl_->may_cut_added) {
        impl_->pretokenizer.cut(text, part_bytes, parts);
    } else {
        parts.push_back(text);
    }
    return parts;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
    std::string text;
    for (const int32_t id : ids) {
        const std::string_view bytes = token_bytes(id);
        LATHE_CHECK(!bytes.empty(), "cannot decode {}: the vocabulary of {} ids has no such token",
                    id, vocabulary_size());
        text += bytes;
    }
    return text;
}

int64_t Tokenizer::vocabulary_size() const {
    return static_cast<int64_t>(impl_->spec.token_bytes.size());
}

std::optional<int32_t> Tokenizer::find_end_of_text() const {
    for (const std::string_view text : {"<|endoftext|>", "<|end_of_text|>", "</s>"}) {
        if (const std::optional<int32_t> id = added_token(text)) {
            return id;
        }
    }
    return std::nullopt;
}

int32_t Tokenizer::end_of_text() const {
    const std::optional<int32_t> id = find_end_of_text();
    LATHE_CHECK_USAGE(id.has_value(),
                      "the tokenizer has no token that ends a document; add '<|endoftext|>' to its "
                      "added_tokens");
    return *id;
}

std::optional<int32_t> Tokenizer::added_token(std::string_view text) const {
    const auto& tokens = impl_->spec.added_tokens;
    const auto found = std::ranges::find(tokens, text, &AddedToken::text);
    return found == tokens.end() ? std::nullopt : std::optional(found->id);
}

bool Tokenizer::is_special(int32_t id) const {
    return std::ranges::any_of(impl_->spec.added_tokens, [id](const AddedToken& token) {
        return token.special && token.id == id;
    });
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
    const auto& tokens = impl_->spec.token_bytes;
    const auto index = static_cast<size_t>(id);
    return id >= 0 && index < tokens.size() ? std::string_view(tokens[index]) : std::string_view();
}

std::vector<int32_t> Tokenizer::text_bytes() const {
    std::vector<int32_t> sizes;
    for (const std::string& token : impl_->spec.token_bytes) {
        sizes.push_back(static_cast<int32_t>(token.size()));
    }
    for (const AddedToken& token : impl_->spec.added_tokens) {
        if (token.special) sizes[static_cast<size_t>(token.id)] = 0;
    }
    return sizes;
}

uint64_t Tokenizer::fingerprint() const { return spec_fingerprint(impl_->spec); }

}  // namespace lathe
