#include "data/pretokenizer.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/error.h"

namespace lathe {
namespace {

constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBloomRegex = R"( ?[^(\s|[.,!?…。,、।۔،])]+)";
constexpr std::string_view kDigitRegex = R"(\p{N})";
constexpr std::string_view kDigitsRegex = R"(\p{N}+)";

// In all of these no match holds a letter or digit followed by a blank or line feed, a match that
// begins with such a blank does not depend on what is before it, and a match that ends with the
// letter does not depend on what is after it: both sides of a cut there split as the whole does.
constexpr std::array kCuttable = {kGpt2Regex,  kLlama3Regex, kQwen2Regex,
                                  kBloomRegex, kDigitRegex,  kDigitsRegex};

// White_Space of Unicode, written for the inside of a class.
constexpr std::string_view kWhiteSpace = R"(\t-\r\x{85}\p{Z})";

constexpr size_t kStackStartBytes = 32 * 1024;
constexpr size_t kStackMaxBytes = 16 * 1024 * 1024;

unsigned char byte_at(std::string_view text, size_t index) {
    return static_cast<unsigned char>(text[index]);
}

/// Length of the well-formed character at the start of `text`, or 0.
size_t character_length(std::string_view text) {
    const unsigned char lead = byte_at(text, 0);
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4) return 0;
    const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (text.size() < length) return 0;
    // The second byte also rules out overlong forms, surrogates and what is above U+10FFFF.
    const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (byte_at(text, 1) < low || byte_at(text, 1) > high) return 0;
    for (size_t i = 2; i < length; ++i) {
        if ((byte_at(text, i) & 0xC0) != 0x80) return 0;
    }
    return length;
}

}  // namespace

std::string_view split_pattern_regex(SplitPattern pattern) {
    return pattern == SplitPattern::kGpt2 ? kGpt2Regex : kLlama3Regex;
}

size_t valid_utf8_prefix(std::string_view text) {
    constexpr uint64_t kHighBits = 0x8080808080808080;
    size_t at = 0;
    while (at < text.size()) {
        uint64_t block = 0;
        if (at + 8 <= text.size()) {
            std::memcpy(&block, text.data() + at, 8);
            if ((block & kHighBits) == 0) {
                at += 8;
                continue;
            }
        }
        const size_t length = character_length(text.substr(at));
        if (length == 0) break;
        at += length;
    }
    return at;
}

std::string to_pcre2(std::string_view regex) {
    std::string result;
    int depth = 0;  // of square brackets
    for (size_t i = 0; i < regex.size(); ++i) {
        const char c = regex[i];
        const char next = i + 1 < regex.size() ? regex[i + 1] : '\0';
        if (c == '\\' && (next == 's' || next == 'S')) {
            LATHE_CHECK_USAGE(depth == 0 || next == 's',
                              "regular expression '{}': \\S inside [] is not supported", regex);
            if (depth > 0) {
                result += kWhiteSpace;
            } else {
                result += next == 's' ? "[" : "[^";
                result += kWhiteSpace;
                result += ']';
            }
            ++i;
        } else if (c == '\\') {
            result += regex.substr(i, 2);
            ++i;
        } else if (c == '[' && next == ':' && depth > 0) {
            const size_t end = regex.find(":]", i);
            LATHE_CHECK_USAGE(end != std::string_view::npos,
                              "regular expression '{}': [: without :]", regex);
            result += regex.substr(i, end + 2 - i);
            i = end + 1;
        } else if (c == '[') {
            LATHE_CHECK_USAGE(depth == 0 || next != '^',
                              "regular expression '{}': [^ inside [] is not supported", regex);
            LATHE_CHECK_USAGE(next != ']' && !regex.substr(i).starts_with("[^]"),
                              "regular expression '{}': [] that begins with ] is not supported",
                              regex);
            if (depth++ == 0) result += c;
        } else if (c == ']' && depth > 0) {
            if (--depth == 0) result += c;
        } else {
            LATHE_CHECK_USAGE(depth == 0 || c != '&' || next != '&',
                              "regular expression '{}': && inside [] is not supported", regex);
            result += c;
        }
    }
    return result;
}

Pretokenizer::Pretokenizer(const std::vector<std::string>& regexes) {
    for (const std::string& regex : regexes) {
        const std::string pattern = to_pcre2(regex);
        int code = 0;
        PCRE2_SIZE offset = 0;
        Stage stage;
        stage.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                       PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code,
                                       &offset, nullptr));
        if (stage.code == nullptr) {
            std::array<PCRE2_UCHAR, 256> text{};
            pcre2_get_error_message(code, text.data(), text.size());
            fail_usage("regular expression '{}': {}", regex,
                       reinterpret_cast<const char*>(text.data()));
        }
        uint32_t matches_empty = 0;
        pcre2_pattern_info(stage.code.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
        LATHE_CHECK_USAGE(matches_empty == 0, "regular expression '{}': matches the empty text",
                          regex);
        // Where the processor or the system forbids machine code PCRE2 interprets: slower, the same
        // pieces.
        stage.compiled = pcre2_jit_compile(stage.code.get(), PCRE2_JIT_COMPLETE) == 0;
        allows_cuts_ = allows_cuts_ && std::ranges::find(kCuttable, regex) != kCuttable.end();
        stages_.push_back(std::move(stage));
    }
}

bool Pretokenizer::cuts_at(char left, char right) {
    const bool is_word = (left >= 'a' && left <= 'z') || (left >= 'A' && left <= 'Z') ||
                         (left >= '0' && left <= '9');
    return is_word && (right == ' ' || right == '\n');
}

void Pretokenizer::cut(std::string_view text, int64_t part_bytes,
                       std::vector<std::string_view>& parts) const {
    const auto wanted = static_cast<size_t>(std::max<int64_t>(1, part_bytes));
    size_t at = allows_cuts_ ? wanted : text.size();
    while (at < text.size()) {
        if (cuts_at(text[at - 1], text[at])) {
            parts.push_back(text.substr(0, at));
            text.remove_prefix(at);
            at = wanted;
        } else {
            ++at;
        }
    }
    parts.push_back(text);
}

Pretokenizer::Matcher::Matcher(const Pretokenizer& pretokenizer)
    : pretokenizer_(&pretokenizer),
      stack_(pcre2_jit_stack_create(kStackStartBytes, kStackMaxBytes, nullptr)),
      context_(pcre2_match_context_create(nullptr)),
      data_(pcre2_match_data_create(1, nullptr)) {
    LATHE_CHECK(stack_ != nullptr && context_ != nullptr && data_ != nullptr,
                "out of memory for a regular expression's matcher");
    pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
}

bool Pretokenizer::Matcher::starts_valid(std::string_view text) {
    return character_length(text) != 0;
}

std::pair<size_t, size_t> Pretokenizer::Matcher::match(size_t stage, std::string_view text,
                                                       size_t start) {
    const Stage& pattern = pretokenizer_->stages_[stage];
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    // split() has checked the text, and every piece of it ends between two characters.
    const int count = pattern.compiled
                          ? pcre2_jit_match(pattern.code.get(), subject, text.size(), start,
                                            PCRE2_NO_UTF_CHECK, data_.get(), context_.get())
                          : pcre2_match(pattern.code.get(), subject, text.size(), start,
                                        PCRE2_NO_UTF_CHECK, data_.get(), context_.get());
    if (count == PCRE2_ERROR_NOMATCH) return {text.size(), text.size()};
    LATHE_CHECK(count >= 0,
                "splitting {} bytes of text by regular expression failed: PCRE2 code {}",
                text.size(), count);
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data_.get());
    return {ends[0], ends[1]};
}

}  // namespace lathe
