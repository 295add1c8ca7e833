// Reads text files and JSONL as a stream of documents, and says of each stretch of text whether it
// is held out for validation: before any tokenizer has seen it.
//
// JSONL: each line's "text" is a document, and is held out whole. Text: a file is one long document
// (a book, a dump) or one of many small ones, so it is cut into blocks at blank lines or line ends,
// and blocks are held out. Blocks spread over the whole text sample all of it, where a contiguous
// tail would be another chapter than the training text. They are kept as large as leaves some eight
// of them (at most 64 KiB), because text beside a training block is easier to predict than text far
// from any. Neighbouring blocks of one split stay one document; where the split changes, it ends.
//
// Unit u (a block or a document, counted over all inputs) belongs to stratum floor(u f) for the
// fraction f; from each stratum one unit, chosen by the seed, is held out. So the fraction is
// exact, the choice needs no knowledge of the corpus's length, and no period in the data can align
// with it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>
#include <vector>

namespace lathe {

enum class CorpusFormat {
    kAuto,  ///< JSONL where the name ends in .jsonl, else text
    kText,
    kJsonl,
};

struct CorpusOptions {
    std::vector<std::filesystem::path> inputs;
    CorpusFormat format = CorpusFormat::kAuto;
    double validation_fraction = 0.05;  ///< 0..0.5
    uint64_t seed = 0;
};

/// A stretch of text: a document or, of a long one, a part.
struct CorpusPiece {
    std::string_view text;  ///< never empty; valid during the visit only
    bool validation = false;
    bool ends_document = true;
};

/// Whether unit `unit` is held out.
bool is_held_out(int64_t unit, double fraction, uint64_t seed);

/// Bytes of all inputs together. Throws UsageError on one that is missing or not a regular file.
int64_t corpus_bytes(const CorpusOptions& options);

/// Calls visit for each piece of the inputs in order, the same pieces every time. Memory use does
/// not grow with the inputs. Throws UsageError naming file and line where a line is not a JSON
/// object with a string "text".
void read_corpus(const CorpusOptions& options,
                 const std::function<void(const CorpusPiece&)>& visit);

}  // namespace lathe
