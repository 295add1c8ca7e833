// Random texts: any bytes, mixtures of UTF-8 and broken UTF-8, and English-like words.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace lathe {

inline std::string random_bytes(uint64_t seed, size_t count) {
    std::mt19937_64 random(seed);
    std::string text(count, '\0');
    for (char& c : text) c = static_cast<char>(random() & 0xFF);
    return text;
}

inline void append_character(std::string& text, uint32_t code) {
    const auto put = [&text](uint32_t byte) { text += static_cast<char>(byte); };
    if (code < 0x80) {
        put(code);
    } else if (code < 0x800) {
        put(0xC0 | (code >> 6));
        put(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        put(0xE0 | (code >> 12));
        put(0x80 | ((code >> 6) & 0x3F));
        put(0x80 | (code & 0x3F));
    } else {
        put(0xF0 | (code >> 18));
        put(0x80 | ((code >> 12) & 0x3F));
        put(0x80 | ((code >> 6) & 0x3F));
        put(0x80 | (code & 0x3F));
    }
}

/// About `count` characters of several scripts, blanks and controls; every `broken`-th one (0:
/// none) is a random byte or a code that UTF-8 forbids.
inline std::string random_text(uint64_t seed, size_t count, uint64_t broken) {
    std::mt19937_64 random(seed);
    std::string text;
    for (size_t i = 0; i < count; ++i) {
        if (broken > 0 && random() % broken == 0) {
            const uint32_t forbidden[] = {0xD800, 0xDFFF, 0x110000, 0x1FFFFF};
            if (random() % 2 == 0) {
                text += static_cast<char>(random() & 0xFF);
            } else {
                append_character(text, forbidden[random() % 4]);
            }
            continue;
        }
        switch (random() % 8) {
            case 0:
                text += " \n\t\r "[random() % 5];
                break;
            case 1:
                append_character(text, 0x4E00 + static_cast<uint32_t>(random() % 0x5000));
                break;
            case 2:
                append_character(text, 0x1F300 + static_cast<uint32_t>(random() % 0x600));
                break;
            case 3:
                append_character(text, static_cast<uint32_t>(random() % 0x600));
                break;
            default:
                text += static_cast<char>('a' + random() % 26);
        }
    }
    return text;
}

/// `count` words of a small random language, with some punctuation: has frequent pairs to merge.
inline std::string random_words(uint64_t seed, size_t count) {
    std::mt19937_64 random(seed);
    const char* const syllables[] = {"the", "an", "d", "in", "er", "ing", "lo", "rd",
                                     "'s",  "é",  "k", "un", "42", "to",  "be", "天"};
    std::string text;
    for (size_t i = 0; i < count; ++i) {
        for (uint64_t n = 1 + random() % 4; n > 0; --n) text += syllables[random() % 16];
        text += random() % 9 == 0 ? ".\n" : random() % 9 == 0 ? ", " : " ";
    }
    return text;
}

}  // namespace lathe
