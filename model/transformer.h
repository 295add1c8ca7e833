// Transformer: forward, hand-written backward, and generation with a key/value cache.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "model/block.h"
#include "model/config.h"
#include "model/context.h"
#include "model/embedding.h"
#include "model/head.h"
#include "model/kv_cache.h"
#include "model/param_access.h"
#include "model/param_layout.h"

namespace lathe {

/// What a block keeps for its backward. `none` recomputes nothing; `selective` recomputes what is
/// elementwise or a norm (norm outputs, activations), keeping products and attention; `full` keeps
/// the block's input only. The gradients are the same bits.
enum class Recompute { none, selective, full };

class Transformer {
  public:
    /// `compute` is the type of activations and of the parameter rows that ParamAccess gives.
    /// `layout` and `backend` must outlive the transformer.
    Transformer(const ModelConfig& config, const ParamLayout& layout, Backend& backend,
                DType compute, Recompute recompute);

    const ModelConfig& config() const { return context_.config; }

    /// One micro-batch, forward and backward. losses [B, T] (accumulation type) = each token's
    /// cross-entropy in nats; gradients of loss_scale * sum(losses) go to `access`, unit by unit,
    /// each announced by gradients_ready as soon as it is complete. tokens, targets: [B, T] i32, T
    /// <= sequence_length; a negative target is ignored.
    void forward_backward(ParamAccess& access, const Tensor& tokens, const Tensor& targets,
                          float loss_scale, const Tensor& losses);

    /// Forward only: losses [B, T] as above.
    void evaluate(ParamAccess& access, const Tensor& tokens, const Tensor& targets,
                  const Tensor& losses);

    /// Acquires, releases and announces units exactly as forward_backward (as evaluate) does, but
    /// computes nothing: the part of a rank without a micro-batch while others have one.
    void follow_forward_backward(ParamAccess& access);
    void follow_evaluate(ParamAccess& access);

    /// logits [B, T, V'] (accumulation type), all of them: for tests and small inputs.
    void logits(ParamAccess& access, const Tensor& tokens, const Tensor& logits);

    /// A cache for `batch` sequences of at most `positions` tokens (at most sequence_length).
    std::unique_ptr<KvCache> make_cache(int64_t batch, int64_t positions);
    /// Feeds tokens [B, S] after what the cache holds; logits [B, V'] (accumulation type) of the
    /// last one. Columns from vocabulary_size on are padding and mean nothing.
    void decode(ParamAccess& access, KvCache& cache, const Tensor& tokens, const Tensor& logits);

    /// Sees every intermediate of later forward passes; an empty function turns it off.
    void set_probe(Probe probe);

  private:
    void check_tokens(const Tensor& tokens) const;
    void label(const char* phase, int unit);
    UnitView view(int unit, const Tensor& row) const;
    Block block(int unit, const Tensor& row);
    HeadTensors head_tensors(const Tensor& embedding_row, const Tensor& final_row) const;
    /// Runs use(parameters) with the head's units acquired.
    template <typename Use>
    void with_head(ParamAccess& access, Use use);
    Buffer embed(ParamAccess& access, const Tensor& tokens, int64_t first_position,
                 NormSaved& norm);
    Buffer forward_blocks(ParamAccess& access, Buffer x, Keep keep);
    Buffer head_backward(ParamAccess& access, Buffer x, const Tensor& targets, float loss_scale,
                         const Tensor& losses);
    void backward_blocks(ParamAccess& access, const Tensor& d);

    ModelContext context_;
    Recompute recompute_;
    std::vector<BlockSaved> saved_;  ///< of the blocks between a forward and its backward
};

}  // namespace lathe
