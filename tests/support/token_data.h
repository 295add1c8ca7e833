// A data folder of made-up tokens, for tests of the trainer that need no text.
#pragma once

#include <filesystem>

#include "data/dataset.h"

namespace lathe::testing {

/// Writes dataset.json and a "train" split of `num_tokens` tokens below `vocabulary`: a noisy
/// counting sequence, so that a model can learn it.
void write_token_data(const std::filesystem::path& folder, int64_t vocabulary, int64_t num_tokens);

}  // namespace lathe::testing
