// GPT-2's printable stand-ins for bytes: tokenizer.json holds text, so each byte is written as one
// Unicode character. Printable Latin-1 bytes stand for themselves, the 68 others are U+0100
// onwards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// The character, in UTF-8, that stands for `byte`.
std::string_view byte_level_character(uint8_t byte);

/// The 256 bytes in the order of their characters' code points: the order of a trained vocabulary.
const std::vector<uint8_t>& byte_level_alphabet();

/// Bytes to stand-ins.
std::string to_byte_level(std::string_view bytes);

/// Stand-ins to bytes; nothing where `text` holds a character that stands for no byte.
std::optional<std::string> from_byte_level(std::string_view text);

}  // namespace lathe
