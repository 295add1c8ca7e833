// How values of the run configuration are written and read, shared by the table of fields, the
// metrics and the command line.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// The shortest decimal text that reads back to the same bits; always with a point or an exponent
/// ("1.0", "0.1", "1e-05"), or "nan", "inf", "-inf".
std::string real_text(double value);

/// `text` as a basic string of TOML, with its quotes. Throws UsageError when it is not UTF-8, which
/// TOML cannot hold.
std::string quoted_text(const std::string& text);

/// The candidate nearest to `word` by edit distance (insert, delete, replace, swap of neighbours),
/// or "" when none is near enough to be what was meant.
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

/// The numbers that a field takes, with the words that say so.
struct FieldRange {
    double low = -std::numeric_limits<double>::infinity();
    double high = std::numeric_limits<double>::infinity();
    bool without_low = false;
    bool without_high = false;
    const char* text = "";  ///< "must be at least 1"

    bool contains(double value) const {
        return (without_low ? value > low : value >= low) &&
               (without_high ? value < high : value <= high);
    }
};

/// No count is larger: products of two then fit in 64 bits.
inline constexpr int64_t kMaxCount = 2147483647;

}  // namespace lathe
