#include "data/byte_level.h"

#include <algorithm>
#include <array>

namespace lathe {
namespace {

constexpr int kNumCodes = 256 + 68;

struct Table {
    std::array<int, 256> code{};             // byte -> code point
    std::array<int, kNumCodes> byte{};       // code point -> byte or -1
    std::array<std::string, 256> character;  // byte -> UTF-8
    std::vector<uint8_t> alphabet;           // by code point
    Table() {
        byte.fill(-1);
        int next = 256;
        for (int b = 0; b < 256; ++b) {
            const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
            const int point = printable ? b : next++;
            const auto index = static_cast<size_t>(b);
            code[index] = point;
            byte[static_cast<size_t>(point)] = b;
            if (point >= 0x80) character[index] += static_cast<char>(0xC0 | (point >> 6));
            character[index] += static_cast<char>(point < 0x80 ? point : 0x80 | (point & 0x3F));
            alphabet.push_back(static_cast<uint8_t>(b));
        }
        std::ranges::sort(alphabet, {}, [this](uint8_t b) { return code[b]; });
    }
};

const Table& table() {
    static const Table instance;
    return instance;
}

}  // namespace

std::string_view byte_level_character(uint8_t byte) { return table().character[byte]; }

const std::vector<uint8_t>& byte_level_alphabet() { return table().alphabet; }

std::string to_byte_level(std::string_view bytes) {
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const char c : bytes) text += byte_level_character(static_cast<uint8_t>(c));
    return text;
}

std::optional<std::string> from_byte_level(std::string_view text) {
    std::string bytes;
    bytes.reserve(text.size());
    for (size_t i = 0; i < text.size(); ++i) {
        int code = static_cast<unsigned char>(text[i]);
        if (code >= 0x80) {
            // All stand-ins are below U+0144: one lead byte 0xC2..0xC5 and one continuation.
            if (code < 0xC2 || code > 0xC5 || i + 1 == text.size()) return std::nullopt;
            const int continuation = static_cast<unsigned char>(text[++i]);
            if ((continuation & 0xC0) != 0x80) return std::nullopt;
            code = ((code & 0x1F) << 6) | (continuation & 0x3F);
        }
        if (code >= kNumCodes || table().byte[static_cast<size_t>(code)] < 0) return std::nullopt;
        bytes += static_cast<char>(table().byte[static_cast<size_t>(code)]);
    }
    return bytes;
}

}  // namespace lathe
