#include "model/embedding.h"

namespace lathe {

namespace {

Buffer look_up(ModelContext& context, const EmbeddingTensors& parameters, const Tensor& tokens,
               int64_t first_position) {
    Buffer y = context.activation({tokens.shape()[0], tokens.shape()[1], context.config.channels});
    context.workspace.run(Embedding{.tokens = tokens,
                                    .token_table = parameters.tokens,
                                    .position_table = parameters.positions,
                                    .y = y,
                                    .first_position = first_position});
    return y;
}

}  // namespace

EmbeddingTensors::EmbeddingTensors(const UnitView& unit)
    : tokens(unit["tokens"]), positions(unit["positions"]), norm(norm_tensors(unit, "norm")) {}

Buffer embedding_forward(ModelContext& context, const EmbeddingTensors& parameters,
                         const Tensor& tokens, int64_t first_position, NormSaved& norm) {
    Buffer x = look_up(context, parameters, tokens, first_position);
    context.observe("embedding", "sum", x);
    if (!context.config.embedding_norm) {
        return x;
    }
    norm = norm_forward(context, parameters.norm, x);
    context.observe("embedding", "norm", norm.y);
    return std::move(norm.y);
}

void embedding_backward(ModelContext& context, const EmbeddingTensors& parameters,
                        const EmbeddingTensors& gradients, const Tensor& tokens,
                        const NormSaved& norm, const Tensor& d) {
    if (context.config.embedding_norm) {
        const Buffer x = look_up(context, parameters, tokens, 0);
        norm_backward(context, parameters.norm, gradients.norm, norm, x, d, {}, d);
    }
    context.workspace.run(EmbeddingBackward{.tokens = tokens,
                                            .d_y = d,
                                            .d_token_table = gradients.tokens,
                                            .d_position_table = gradients.positions,
                                            .accumulate_tokens = context.config.tied_embeddings});
}

}  // namespace lathe
