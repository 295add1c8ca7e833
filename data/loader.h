// Which tokens are sample s: a pure function of (seed, s), without state. The position in the data
// is therefore one counter, and any rank computes any sample.
#pragma once

#include <cstdint>
#include <span>

#include "data/dataset.h"

namespace lathe {

/// A bijection of 0..size-1 chosen by (seed, epoch): a Feistel network over the next even number of
/// bits, walked along its cycle until it falls below `size` (Black and Rogaway, "Ciphers with
/// arbitrary finite domains", CT-RSA 2002). O(1) time and memory. Requires 0 <= index < size.
int64_t permuted_index(int64_t index, int64_t size, uint64_t seed, int64_t epoch);

enum class SampleOrder {
    kShuffled,    ///< every epoch in another order: training
    kSequential,  ///< as stored: validation
};

/// Where training takes its samples from.
class Samples {
  public:
    virtual ~Samples() = default;

    /// tokens[b, t] = input t and targets[b, t] = the token after it, of global sample
    /// first_sample + b, for b in 0..count-1. Both spans have count x T elements.
    virtual void fill(int64_t first_sample, int64_t count, std::span<int32_t> tokens,
                      std::span<int32_t> targets) const = 0;
};

/// Cuts a split into samples of T + 1 consecutive tokens: sample window i is tokens
/// [i T, i T + T], so windows share one token and every token but the first is a target once an
/// epoch. Global sample s is window pi(s mod num_samples) of epoch s / num_samples. The dataset
/// must outlive the loader. Any thread may call any member.
class Loader final : public Samples {
  public:
    /// Throws UsageError where the split holds less than one sample.
    Loader(const TokenDataset& dataset, int64_t sequence_length, uint64_t seed,
           SampleOrder order = SampleOrder::kShuffled);

    /// Samples in one epoch: (tokens - 1) / T; the last few tokens that fill no window are left
    /// out.
    int64_t num_samples() const { return num_samples_; }
    int64_t sequence_length() const { return sequence_length_; }

    /// The window (0..num_samples-1) of global sample `sample` >= 0.
    int64_t window(int64_t sample) const;

    void fill(int64_t first_sample, int64_t count, std::span<int32_t> tokens,
              std::span<int32_t> targets) const override;

  private:
    const TokenDataset* dataset_;
    int64_t sequence_length_;
    uint64_t seed_;
    SampleOrder order_;
    int64_t num_samples_;
};

}  // namespace lathe
