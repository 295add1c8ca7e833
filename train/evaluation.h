// Held-out loss: the mean over a data set's tokens, in order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/loader.h"
#include "data/tokenizer.h"
#include "kernels/backend.h"
#include "model/transformer.h"
#include "parallel/communicator.h"

namespace lathe {

struct Evaluation {
    double loss = 0.0;  ///< nats a token
    double bits_per_byte =
        0.0;  ///< the same information spread over the text's bytes: tokenizers compare fairly
    int64_t tokens = 0;
};

/// Evaluates sequences of a sequential Loader, `batch` at a time.
class Evaluator {
  public:
    Evaluator(Backend& backend, const Tokenizer& tokenizer, int64_t batch, int64_t sequence_length);

    /// Over the first `max_sequences` samples of the loader (0: all), the batches dealt to the
    /// ranks in turn. Sums are made in order, in double: the same bits on any number of ranks. All
    /// ranks.
    Evaluation run(Transformer& model, ParamAccess& params, const Loader& loader,
                   int64_t max_sequences, Communicator& world);

  private:
    int64_t text_bytes(std::span<const int32_t> tokens) const;

    Backend& backend_;
    std::vector<int32_t> bytes_of_token_;
    int64_t batch_;
    int64_t sequence_length_;
};

}  // namespace lathe
