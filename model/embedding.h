// From tokens to the first block's input: token table, learned positions, BLOOM's norm.
#pragma once

#include "model/layers.h"

namespace lathe {

/// The embedding's parameters, or their gradients. The token table is the head's too when tied.
struct EmbeddingTensors {
    explicit EmbeddingTensors(const UnitView& unit);

    Tensor tokens;     ///< [V', C]
    Tensor positions;  ///< [P, C], absent unless positions are learned
    NormTensors norm;  ///< absent without an embedding norm
};

/// tokens: [B, T] i32 at positions first_position ..; returns [B, T, C]. With an embedding norm
/// `norm` receives its statistics (its y is the result and not kept).
Buffer embedding_forward(ModelContext& context, const EmbeddingTensors& parameters,
                         const Tensor& tokens, int64_t first_position, NormSaved& norm);

/// d [B, T, C], the gradient of the result, is overwritten. gradients =, except that a tied token
/// table's is += (the head has assigned it). The norm's input is looked up again.
void embedding_backward(ModelContext& context, const EmbeddingTensors& parameters,
                        const EmbeddingTensors& gradients, const Tensor& tokens,
                        const NormSaved& norm, const Tensor& d);

}  // namespace lathe
