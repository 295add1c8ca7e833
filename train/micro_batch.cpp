#include "train/micro_batch.h"

#include <numeric>

namespace lathe {

MicroBatch::MicroBatch(Backend& backend, int64_t batch, int64_t sequence_length)
    : backend_(backend),
      tokens_(backend.allocate({batch, sequence_length}, DType::i32, MemoryCategory::activations)),
      targets_(backend.allocate({batch, sequence_length}, DType::i32, MemoryCategory::activations)),
      losses_(backend.allocate({batch, sequence_length}, DType::f32, MemoryCategory::activations)) {
    const auto size = static_cast<size_t>(batch * sequence_length);
    host_tokens_.resize(size);
    host_targets_.resize(size);
    host_losses_.resize(size);
}

void MicroBatch::load(const Samples& samples, int64_t first_sample, int64_t count) {
    count_ = count;
    const auto used = static_cast<size_t>(tokens().size());
    samples.fill(first_sample, count, std::span(host_tokens_).first(used),
                 std::span(host_targets_).first(used));
    backend_.copy_from_host(tokens(), host_tokens_.data());
    backend_.copy_from_host(targets(), host_targets_.data());
}

std::span<const int32_t> MicroBatch::host_targets() const {
    return std::span(host_targets_).first(static_cast<size_t>(targets().size()));
}

double MicroBatch::sum_losses() {
    backend_.copy_to_host(host_losses_.data(), losses());
    return std::accumulate(host_losses_.begin(), host_losses_.begin() + losses().size(), 0.0);
}

}  // namespace lathe
