// Splits text into the pieces that byte-pair merges never cross, by regular expressions (PCRE2 with
// its just-in-time compiler).
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lathe {

/// The pre-tokenization patterns that Lathe trains tokenizers with.
enum class SplitPattern { kGpt2, kLlama3 };

/// The regular expression as its authors published it.
std::string_view split_pattern_regex(SplitPattern pattern);

/// Translates a regular expression as Hugging Face tokenizers and tiktoken read it into PCRE2's
/// syntax: `\s` and `\S` become exactly Unicode's White_Space (PCRE2's include U+180E), and a class
/// nested in a class (BLOOM has one) is flattened. Throws UsageError on class operators that PCRE2
/// has no equal of.
std::string to_pcre2(std::string_view regex);

/// Length of the longest prefix of `text` that is well-formed UTF-8 (Unicode 15, table 3-7).
size_t valid_utf8_prefix(std::string_view text);

/// An immutable list of patterns, applied one after the other: each splits the pieces of the one
/// before. Matches and the text between matches are pieces alike. Categories of characters are
/// those of the linked PCRE2 (Debian 12: Unicode 14), so characters assigned later may split
/// otherwise than in other tokenizers.
class Pretokenizer {
  public:
    /// No pattern at all leaves the text whole. Throws UsageError on an expression that does not
    /// compile or that matches the empty text.
    explicit Pretokenizer(const std::vector<std::string>& regexes);

    /// Appends to `parts` a division of `text` in parts of at least `part_bytes` (the last one may
    /// be smaller), such that the pieces of the parts are the pieces of the text. Cuts are made
    /// where cuts_at() holds, and only for expressions where this has been shown; else there is one
    /// part.
    void cut(std::string_view text, int64_t part_bytes, std::vector<std::string_view>& parts) const;

    /// Between an ASCII letter or digit and an ASCII blank or line feed.
    static bool cuts_at(char left, char right);

    /// The state of one thread that splits.
    class Matcher;

  private:
    struct FreeCode {
        void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    };
    struct Stage {
        std::unique_ptr<pcre2_code, FreeCode> code;
        bool compiled = false;  ///< to machine code
    };

    std::vector<Stage> stages_;
    bool allows_cuts_ = true;
};

/// The pretokenizer must outlive its matchers.
class Pretokenizer::Matcher {
  public:
    explicit Matcher(const Pretokenizer& pretokenizer);

    /// Calls visit(std::string_view piece) for each piece of `text` in order; together they are
    /// `text`. A run of bytes that are not UTF-8 is a piece.
    template <typename Visit>
    void split(std::string_view text, Visit&& visit) {
        while (!text.empty()) {
            const size_t valid = valid_utf8_prefix(text);
            if (valid > 0) split_stage(0, text.substr(0, valid), visit);
            text.remove_prefix(valid);
            size_t invalid = 0;
            while (invalid < text.size() && !starts_valid(text.substr(invalid))) ++invalid;
            if (invalid > 0) visit(text.substr(0, invalid));
            text.remove_prefix(invalid);
        }
    }

  private:
    struct FreeData {
        void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
    };
    struct FreeContext {
        void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
    };
    struct FreeStack {
        void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
    };

    static bool starts_valid(std::string_view text);

    /// First match of the stage's expression at or after `start` as [begin, end), or
    /// [text.size(), text.size()).
    std::pair<size_t, size_t> match(size_t stage, std::string_view text, size_t start);

    template <typename Visit>
    void split_stage(size_t stage, std::string_view text, Visit& visit) {
        if (stage == pretokenizer_->stages_.size()) {
            visit(text);
            return;
        }
        size_t at = 0;
        while (at < text.size()) {
            const auto [begin, end] = match(stage, text, at);
            if (begin > at) split_stage(stage + 1, text.substr(at, begin - at), visit);
            if (end > begin) split_stage(stage + 1, text.substr(begin, end - begin), visit);
            at = end;
        }
    }

    const Pretokenizer* pretokenizer_;
    std::unique_ptr<pcre2_jit_stack, FreeStack> stack_;
    std::unique_ptr<pcre2_match_context, FreeContext> context_;
    std::unique_ptr<pcre2_match_data, FreeData> data_;
};

}  // namespace lathe
