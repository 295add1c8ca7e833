// The operations of a training step at the sizes of real models.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace lathe::bench {

/// Sizes of one micro-batch of a model.
struct ModelSizes {
    std::string name;
    int64_t batch, time;
    int64_t channels, feed_forward, vocabulary;
    AttentionHeads heads;
    int64_t head_rows;  ///< rows of logits at a time

    int64_t tokens() const { return batch * time; }
};
ModelSizes quickstart_sizes();
ModelSizes gpt2_124m_sizes();

/// One operation on tensors of its own.
struct BenchCase {
    std::string name;
    double flops = 0;  ///< of its matrix products; 0: bound by memory
    double bytes = 0;  ///< that it must move at least
    std::function<void()> run;
};

/// The cases of one model; their buffers live as long as the functions.
std::vector<BenchCase> make_cases(Backend& backend, const ModelSizes& sizes, DType compute);

}  // namespace lathe::bench
