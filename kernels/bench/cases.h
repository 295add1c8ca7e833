// The operations of a training step and of generation, at the sizes of real models.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/operation_cost.h"

namespace lathe::bench {

/// Sizes of one micro-batch of a model, and which operations it consists of.
struct ModelSizes {
    std::string name;
    int64_t batch = 0;
    int64_t time = 0;
    int64_t channels = 0;
    int64_t feed_forward = 0;
    int64_t vocabulary = 0;  ///< V': rows of the token table, a multiple of 64
    AttentionHeads heads;
    NormKind norm = NormKind::rmsnorm;
    Activation activation = Activation::none;  ///< of the feed-forward part; none: SwiGLU
    bool biases = false;                       ///< of all products but the head's
    bool learned_positions = false;
    bool rotary = false;
    int64_t head_rows = 0;  ///< rows of logits at a time

    int64_t tokens() const { return batch * time; }
};

/// An operation on tensors of its own, which live as long as this.
class PreparedCase {
  public:
    virtual ~PreparedCase() = default;
    virtual void issue() = 0;
};

/// One operation; its tensors are made when it is its turn, so that only one case's are there.
struct BenchCase {
    std::string name;  ///< "gpt2-124m/bf16/attention/forward"
    OperationCost cost;
    std::function<std::unique_ptr<PreparedCase>(Backend& backend)> prepare;

    bool is_product() const { return cost.operation_class == OperationClass::matmul; }
    /// Whether arithmetic, not memory, is what such an operation is to be limited by.
    bool is_arithmetic() const;
};

std::vector<BenchCase> make_cases(const ModelSizes& sizes, DType compute);

}  // namespace lathe::bench
