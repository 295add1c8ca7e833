// From the last block's output to losses: final norm, product with the vocabulary table,
// cross-entropy; in chunks of rows, so that all logits are never held.
#pragma once

#include "model/layers.h"

namespace lathe {

/// The head's parameters, or their gradients.
struct HeadTensors {
    NormTensors norm;
    Tensor table;  ///< [V', C]: head.weight, or the token table when tied
};

/// Rows of logits that are held at a time: a function of shapes alone, because sums over rows are
/// rounded chunk by chunk. At most 8 MiB of f32 (they stay in the cache), but 512 rows at least, so
/// that reading the table and adding to its gradient costs little beside the products; 1,024 where
/// even 512 leave the cache and that many take no more than 128 MiB.
int64_t head_chunk_rows(int64_t rows, int64_t padded_vocabulary);

/// losses [B, T] (accumulation) of x [B, T, C]; targets [B, T] i32.
void head_losses(ModelContext& context, const HeadTensors& parameters, Buffer x,
                 const Tensor& targets, const Tensor& losses);

/// Losses as above; gradients = those of loss_scale * sum(losses). Returns the gradient of x.
Buffer head_forward_backward(ModelContext& context, const HeadTensors& parameters,
                             const HeadTensors& gradients, Buffer x, const Tensor& targets,
                             float loss_scale, const Tensor& losses);

/// logits [N, V'] (accumulation) of x [N, C]; columns from the vocabulary's size on mean nothing.
void head_logits(ModelContext& context, const HeadTensors& parameters, Buffer x,
                 const Tensor& logits);

}  // namespace lathe
