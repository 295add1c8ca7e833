// A small English-like corpus and a prepared data folder, made by the real `lathe prepare`.
#pragma once

#include <string>

#include "tests/support/process.h"

namespace lathe::testing {

/// Documents of simple sentences, different each time: about `bytes` of text, a pure function of
/// its arguments.
std::string small_corpus(int64_t bytes, unsigned seed = 1);

/// Writes the corpus into `folder`, prepares it with a vocabulary of 320 tokens and returns the
/// data folder's path.
std::string prepare_small_data(const TemporaryFolder& folder, int64_t bytes = 60000);

}  // namespace lathe::testing
