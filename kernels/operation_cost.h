// What an operation costs whatever the device: floating-point operations and bytes of tensors, from
// its arguments' shapes and types alone. For plans, profiles and benchmarks.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/operations.h"

namespace lathe {

/// Operations that reach about the same share of a device's peak.
enum class OperationClass {
    matmul,
    attention,
    attention_backward,
    norm,
    activation,
    rotary,
    cross_entropy,
    embedding,
    optimizer,
    sum,  ///< sums over rows or of gradients, and norms of them
    copy  ///< casts
};
inline constexpr int kNumOperationClasses = 11;
/// "attention-backward"
std::string_view name_of(OperationClass operation_class);

struct OperationCost {
    OperationClass operation_class = OperationClass::copy;
    /// Multiplications and additions each count one; of causal attention only what the mask leaves,
    /// recomputed scores included.
    double flops = 0.0;
    double read_bytes = 0.0;  ///< of tensors, each once: what a cache keeps is not known here
    double written_bytes = 0.0;
    /// What efficiency grows with: a product's least dimension, the tokens attended to; else
    /// elements.
    int64_t extent = 0;
    DType dtype = DType::f32;  ///< in which the FLOPs are done

    double bytes() const { return read_bytes + written_bytes; }
};

#define LATHE_DECLARE_COST(Operation) OperationCost cost_of(const Operation& op);
LATHE_OPERATIONS(LATHE_DECLARE_COST)
#undef LATHE_DECLARE_COST

}  // namespace lathe
