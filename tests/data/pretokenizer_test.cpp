#include "data/pretokenizer.h"

#include <gtest/gtest.h>

#include "tests/data/texts.h"
#include "tests/support/expect_error.h"

namespace lathe {
namespace {

using Pieces = std::vector<std::string>;

Pieces split(const std::vector<std::string>& regexes, std::string_view text) {
    const Pretokenizer pretokenizer(regexes);
    Pretokenizer::Matcher matcher(pretokenizer);
    Pieces pieces;
    matcher.split(text, [&](std::string_view piece) { pieces.emplace_back(piece); });
    return pieces;
}

Pieces split(SplitPattern pattern, std::string_view text) {
    return split({std::string(split_pattern_regex(pattern))}, text);
}

TEST(Pretokenizer, SplitsAsGpt2) {
    const auto gpt2 = [](std::string_view text) { return split(SplitPattern::kGpt2, text); };
    EXPECT_EQ(gpt2("Hello, world!"), (Pieces{"Hello", ",", " world", "!"}));
    EXPECT_EQ(gpt2("it's we'll DON'T"), (Pieces{"it", "'s", " we", "'ll", " DON", "'", "T"}));
    EXPECT_EQ(gpt2("a  b"), (Pieces{"a", " ", " b"}));
    EXPECT_EQ(gpt2("a \n\n  b  "), (Pieces{"a", " \n\n ", " b", "  "}));
    EXPECT_EQ(gpt2("x1234 56"), (Pieces{"x", "1234", " 56"}));
    EXPECT_EQ(gpt2("天地。玄"), (Pieces{"天地", "。", "玄"}));
    EXPECT_EQ(gpt2(""), Pieces{});
}

TEST(Pretokenizer, SplitsAsLlama3) {
    const auto llama3 = [](std::string_view text) { return split(SplitPattern::kLlama3, text); };
    EXPECT_EQ(llama3("DON'T"), (Pieces{"DON", "'T"}));
    EXPECT_EQ(llama3("x1234567"), (Pieces{"x", "123", "456", "7"}));
    EXPECT_EQ(llama3("(a) {\r\n\r\n  b"), (Pieces{"(a", ")", " {\r\n\r\n", " ", " b"}));
    EXPECT_EQ(llama3("\tb"), (Pieces{"\tb"}));
}

TEST(Pretokenizer, TreatsWhiteSpaceAsUnicodeDoes) {
    // U+180E is a format character; PCRE2's own \s would take it for white space.
    EXPECT_EQ(split({R"(\s+)"}, "a\u180Eb\u2003\u3000\u0085c\x1C"),
              (Pieces{"a\u180Eb", "\u2003\u3000\u0085", "c\x1C"}));
    EXPECT_EQ(split({R"(\S+)"}, "a b"), (Pieces{"a", " ", "b"}));
}

TEST(Pretokenizer, KeepsRunsOfInvalidBytesApart) {
    EXPECT_EQ(split(SplitPattern::kGpt2, "ab\xFF\xFE c"), (Pieces{"ab", "\xFF\xFE", " c"}));
    EXPECT_EQ(split(SplitPattern::kGpt2, "\xE5\xA4"), (Pieces{"\xE5\xA4"}));
    EXPECT_EQ(split(SplitPattern::kGpt2, "\xE5\xA4\xA9\xE5\xA4"), (Pieces{"天", "\xE5\xA4"}));
}

TEST(Pretokenizer, AppliesStagesInTurn) {
    EXPECT_EQ(split({R"(\p{N})", std::string(split_pattern_regex(SplitPattern::kGpt2))}, "ab 12 c"),
              (Pieces{"ab", " ", "1", "2", " c"}));
    EXPECT_EQ(split(std::vector<std::string>{}, "all of it"), (Pieces{"all of it"}));
}

TEST(Pretokenizer, TranslatesClasses) {
    EXPECT_EQ(to_pcre2(R"([^\s\p{L}]\s\\s\])"),
              R"([^\t-\r\x{85}\p{Z}\p{L}][\t-\r\x{85}\p{Z}]\\s\])");
    EXPECT_EQ(to_pcre2("[a[bc]]+"), "[abc]+");
    EXPECT_EQ(to_pcre2("[[:alpha:]x]"), "[[:alpha:]x]");
    for (const char* regex : {R"([\S])", "[a[^b]]", "[a&&b]", "[]a]", "[^]a]", "[[:alpha]"}) {
        expect_usage_error([&] { to_pcre2(regex); }, {regex});
    }
}

TEST(Pretokenizer, KnowsWellFormedUtf8) {
    EXPECT_EQ(valid_utf8_prefix("plain ascii text"), 16U);
    EXPECT_EQ(valid_utf8_prefix("\u00E9\u5929\U0001F600"), 9U);
    const std::string_view broken[] = {
        "\x80",         "\xC0\x80",         "\xC1\xBF",         "\xE0\x9F\xBF",
        "\xED\xA0\x80", "\xF0\x8F\x80",     "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
        "\xE5\xA4",     "\xF8\x88\x80\x80", "\xC3\x28",         "\xF0\x9F\x98",
        "\xFF",         "\xF0\x8F\xBF\xBF"};
    for (const std::string_view text : broken) {
        EXPECT_EQ(valid_utf8_prefix(text), 0U) << testing::PrintToString(text);
        const std::string after = "12345678" + std::string(text);
        EXPECT_EQ(valid_utf8_prefix(after), 8U) << testing::PrintToString(text);
    }
}

TEST(Pretokenizer, CutsOnlyWhatItKnows) {
    std::vector<std::string_view> parts;
    Pretokenizer({std::string(split_pattern_regex(SplitPattern::kGpt2))})
        .cut("a b\nc. d", 1, parts);
    EXPECT_EQ(parts, (std::vector<std::string_view>{"a", " b", "\nc. d"}));
    parts.clear();
    Pretokenizer({"a b|c"}).cut("a b\nc d", 1, parts);
    EXPECT_EQ(parts.size(), 1U);
}

}  // namespace
}  // namespace lathe
