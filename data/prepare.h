// Text to training data: splits off validation text, trains a tokenizer on the rest (or takes one),
// and writes the data folder that TokenDataset opens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "data/corpus.h"
#include "data/dataset.h"
#include "data/pretokenizer.h"

namespace lathe {

struct PrepareOptions {
    CorpusOptions corpus;
    std::filesystem::path output;

    /// A tokenizer.json to use; without it one is trained.
    std::optional<std::filesystem::path> tokenizer;
    int64_t vocabulary_size = 8192;
    SplitPattern pattern = SplitPattern::kGpt2;
    /// Of training text beyond this many bytes only a random sample of about that size trains the
    /// tokenizer: merges hardly change any more, and counting costs time and memory.
    int64_t tokenizer_bytes = int64_t{512} << 20;

    int64_t tokens_per_shard = int64_t{1} << 30;
    int num_threads = 0;  ///< 0: all cores. Never changes the result
};

struct PrepareResult {
    DatasetInfo info;
    bool was_finished = false;  ///< `output` already held exactly this work
};

/// Writes `options.output`: under the name `output`.partial first, renamed when it is complete and
/// synced. Where `output` already holds the finished work of the same options on the same files (by
/// path, size and time of change) nothing is done; where it holds anything else UsageError is
/// thrown, as for inputs without text, a fraction that holds nothing out, unreadable files and a
/// full disk.
PrepareResult prepare(const PrepareOptions& options);

}  // namespace lathe
