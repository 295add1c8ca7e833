#include "data/corpus.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "kernels/error.h"
#include "kernels/files.h"
#include "kernels/random.h"

namespace lathe {
namespace {

constexpr int64_t kMinBlockBytes = 256;
constexpr int64_t kMaxBlockBytes = 64 * 1024;
constexpr int64_t kWantedHeldOutBlocks = 8;
/// Longest stretch of text handed out at once, so that memory use has a bound.
constexpr size_t kMaxPieceBytes = size_t{16} << 20;

bool is_jsonl(const std::filesystem::path& path, CorpusFormat format) {
    return format == CorpusFormat::kJsonl ||
           (format == CorpusFormat::kAuto && path.extension() == ".jsonl");
}

/// Length of the block at the start of `text`: about `block_bytes`, up to and with a blank line if
/// one is near, else a line end, else a blank, else before the next character.
size_t block_length(std::string_view text, size_t block_bytes) {
    if (text.size() <= block_bytes + block_bytes / 2) return text.size();
    const std::string_view window = text.substr(block_bytes - 1, block_bytes / 2);
    for (const std::string_view end : {"\n\n", "\n", " "}) {
        const size_t found = window.find(end);
        if (found != std::string_view::npos) return block_bytes - 1 + found + end.size();
    }
    size_t length = block_bytes;
    while (length < text.size() && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) {
        ++length;
    }
    return length;
}

class CorpusReader {
  public:
    CorpusReader(const CorpusOptions& options, const std::function<void(const CorpusPiece&)>& visit)
        : options_(options), visit_(visit) {
        const double wanted = static_cast<double>(corpus_bytes(options)) *
                              options.validation_fraction / double{kWantedHeldOutBlocks};
        block_bytes_ =
            static_cast<size_t>(std::clamp(wanted, double{kMinBlockBytes}, double{kMaxBlockBytes}));
    }

    void read() {
        for (const std::filesystem::path& path : options_.inputs) {
            const MappedFile file(path);
            if (is_jsonl(path, options_.format)) {
                read_jsonl(path, file.text());
            } else {
                read_text(file.text());
            }
        }
    }

  private:
    bool next_is_held_out() {
        return is_held_out(num_units_++, options_.validation_fraction, options_.seed);
    }

    void read_text(std::string_view text) {
        size_t begin = 0;  // of the run of blocks of one split
        size_t end = 0;
        bool validation = false;
        while (end < text.size()) {
            const bool held_out = next_is_held_out();
            const bool changed = held_out != validation;
            if (end > begin && (changed || end - begin >= kMaxPieceBytes)) {
                visit_({text.substr(begin, end - begin), validation, changed});
                begin = end;
            }
            validation = held_out;
            end += block_length(text.substr(end), block_bytes_);
        }
        if (end > begin) visit_({text.substr(begin), validation, true});
    }

    void read_jsonl(const std::filesystem::path& path, std::string_view text) {
        for (int64_t line = 1; !text.empty(); ++line) {
            const size_t end = std::min(text.find('\n'), text.size());
            const std::string_view json = text.substr(0, end);
            text.remove_prefix(std::min(end + 1, text.size()));
            if (json.find_first_not_of(" \t\r") == std::string_view::npos) continue;
            const std::string document = text_field(path, line, json);
            if (!document.empty()) visit_({document, next_is_held_out(), true});
        }
    }

    static std::string text_field(const std::filesystem::path& path, int64_t line,
                                  std::string_view json) {
        try {
            return nlohmann::json::parse(json).at("text").get<std::string>();
        } catch (const nlohmann::json::exception& error) {
            fail_usage(
                "{}:{}: is not a JSON object with a string \"text\": {}; mend or drop the line",
                path.string(), line, error.what());
        }
    }

    const CorpusOptions& options_;
    const std::function<void(const CorpusPiece&)>& visit_;
    size_t block_bytes_ = 0;
    int64_t num_units_ = 0;
};

}  // namespace

bool is_held_out(int64_t unit, double fraction, uint64_t seed) {
    if (fraction <= 0.0) return false;
    const auto stratum = static_cast<int64_t>(std::floor(static_cast<double>(unit) * fraction));
    const auto first_unit = [fraction](int64_t s) {
        auto first = static_cast<int64_t>(std::ceil(static_cast<double>(s) / fraction));
        // The quotient may round to the other side of an integer.
        while (std::floor(static_cast<double>(first - 1) * fraction) >= static_cast<double>(s)) {
            --first;
        }
        while (std::floor(static_cast<double>(first) * fraction) < static_cast<double>(s)) ++first;
        return first;
    };
    const int64_t first = first_unit(stratum);
    const int64_t size = first_unit(stratum + 1) - first;
    const uint32_t random = philox4x32(seed, static_cast<uint64_t>(stratum), 0)[0];
    return unit - first == static_cast<int64_t>(random % static_cast<uint64_t>(size));
}

int64_t corpus_bytes(const CorpusOptions& options) {
    LATHE_CHECK_USAGE(!options.inputs.empty(), "no input file; give at least one");
    int64_t bytes = 0;
    for (const std::filesystem::path& path : options.inputs) {
        LATHE_CHECK_USAGE(std::filesystem::is_regular_file(path),
                          "{}: {}; give text or JSONL files", path.string(),
                          std::filesystem::exists(path) ? "is not a regular file" : "no such file");
        bytes += static_cast<int64_t>(std::filesystem::file_size(path));
    }
    return bytes;
}

void read_corpus(const CorpusOptions& options,
                 const std::function<void(const CorpusPiece&)>& visit) {
    LATHE_CHECK_USAGE(options.validation_fraction >= 0.0 && options.validation_fraction <= 0.5,
                      "validation fraction {} is not in 0..0.5", options.validation_fraction);
    CorpusReader(options, visit).read();
}

}  // namespace lathe
