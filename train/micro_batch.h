// MicroBatch: B sequences of tokens and targets on the device, and the losses that come back.
#pragma once

#include <cstdint>
#include <vector>

#include "data/loader.h"
#include "kernels/backend.h"

namespace lathe {

class MicroBatch {
  public:
    MicroBatch(Backend& backend, int64_t batch, int64_t sequence_length);

    /// Loads samples [first_sample, first_sample + count) of the source, count <= batch.
    void load(const Samples& samples, int64_t first_sample, int64_t count);

    Tensor tokens() const { return tokens_.tensor().slice(0, count_); }
    Tensor targets() const { return targets_.tensor().slice(0, count_); }
    Tensor losses() const { return losses_.tensor().slice(0, count_); }
    /// Targets on the host, count x T.
    std::span<const int32_t> host_targets() const;
    /// Waits for the losses and adds them in order, in double.
    double sum_losses();

  private:
    Backend& backend_;
    int64_t count_ = 0;
    Buffer tokens_;
    Buffer targets_;
    Buffer losses_;
    std::vector<int32_t> host_tokens_;
    std::vector<int32_t> host_targets_;
    std::vector<float> host_losses_;
};

}  // namespace lathe
