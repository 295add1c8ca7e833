// The Hugging Face tokenizer.json format, as far as Lathe implements it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/bpe.h"

namespace lathe {

/// A token that is found in text as it is written, beside the byte-pair merges.
struct AddedToken {
    int32_t id = 0;
    std::string text;
    bool special = false;
};

/// What a tokenizer.json says, checked: every byte has a token, merges name tokens that exist.
struct TokenizerSpec {
    std::vector<std::string>
        token_bytes;  ///< by id; empty for unused ids; the text of added tokens
    std::array<int32_t, 256> byte_ids{};
    std::vector<BpeMerge> merges;
    std::vector<AddedToken> added_tokens;
    std::vector<std::string> split_regexes;
    bool ignore_merges = false;  ///< a piece that is a token as a whole is that token (Llama 3)
};

/// Throws UsageError: "`name`: what is wrong; the mend".
TokenizerSpec parse_tokenizer_json(std::string_view json, std::string_view name);

/// The tokenizer.json of a trained vocabulary that Hugging Face tokenizers loads: `tokens` are the
/// bytes of tokens by id, of which the first `num_special` are special tokens.
std::string write_tokenizer_json(std::span<const std::string> tokens, int64_t num_special,
                                 std::span<const BpeMerge> merges, bool gpt2_pattern,
                                 std::string_view split_regex);

}  // namespace lathe
