// KvCache: keys and values of the tokens seen so far, for generation.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "model/config.h"

namespace lathe {

/// Keys and values of all positions so far, for every layer.
class KvCache {
  public:
    /// Room for `batch` sequences of at most `positions` tokens, which may not exceed the model's
    /// sequence_length (UsageError).
    KvCache(const ModelConfig& config, Backend& backend, DType compute, int64_t batch,
            int64_t positions);

    int64_t batch() const { return batch_; }
    int64_t positions() const { return positions_; }
    /// Tokens held, the same for every sequence.
    int64_t length() const { return length_; }

    /// Keys and values of one layer, [B, K, P, D] compute.
    const Tensor& keys(int64_t layer) const {
        return keys_.at(static_cast<size_t>(layer)).tensor();
    }
    const Tensor& values(int64_t layer) const {
        return values_.at(static_cast<size_t>(layer)).tensor();
    }
    /// Every layer has stored `tokens` more.
    void advance(int64_t tokens) { length_ += tokens; }
    /// Forgets all tokens.
    void clear() { length_ = 0; }

  private:
    int64_t batch_;
    int64_t positions_;
    int64_t length_ = 0;
    std::vector<Buffer> keys_;
    std::vector<Buffer> values_;
};

}  // namespace lathe
