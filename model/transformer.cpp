#include "model/transformer.h"

#include <optional>

namespace lathe {

namespace {

Keep keep_for(Recompute recompute) {
    switch (recompute) {
        case Recompute::none:
            return Keep::everything;
        case Recompute::selective:
            return Keep::products;
        case Recompute::full:
            return Keep::input;
    }
    return Keep::everything;
}

}  // namespace

Transformer::Transformer(const ModelConfig& config, const ParamLayout& layout, Backend& backend,
                         DType compute, Recompute recompute)
    : context_(config, layout, backend, compute), recompute_(recompute) {}

void Transformer::forward_backward(ParamAccess& access, const Tensor& tokens, const Tensor& targets,
                                   float loss_scale, const Tensor& losses) {
    check_tokens(tokens);
    NormSaved embedding_norm;
    saved_.clear();
    Buffer x = embed(access, tokens, 0, embedding_norm);
    x = forward_blocks(access, std::move(x), keep_for(recompute_));
    const Buffer d = head_backward(access, std::move(x), targets, loss_scale, losses);
    backward_blocks(access, d);

    const int unit = context_.layout.embedding_unit();
    label("backward", unit);
    {
        const AcquiredUnit acquired(access, unit);
        embedding_backward(context_, EmbeddingTensors(view(unit, acquired.row())),
                           EmbeddingTensors(view(unit, access.gradients(unit))), tokens,
                           embedding_norm, d);
    }
    access.gradients_ready(unit);
}

void Transformer::evaluate(ParamAccess& access, const Tensor& tokens, const Tensor& targets,
                           const Tensor& losses) {
    check_tokens(tokens);
    NormSaved embedding_norm;
    Buffer x = embed(access, tokens, 0, embedding_norm);
    x = forward_blocks(access, std::move(x), Keep::nothing);
    with_head(access, [&](const HeadTensors& parameters) {
        head_losses(context_, parameters, std::move(x), targets, losses);
    });
}

void Transformer::logits(ParamAccess& access, const Tensor& tokens, const Tensor& logits) {
    check_tokens(tokens);
    NormSaved embedding_norm;
    Buffer x = embed(access, tokens, 0, embedding_norm);
    x = forward_blocks(access, std::move(x), Keep::nothing);
    with_head(access, [&](const HeadTensors& parameters) {
        head_logits(context_, parameters, std::move(x), logits);
    });
}

void Transformer::follow_evaluate(ParamAccess& access) {
    for (int unit = context_.layout.embedding_unit(); unit < context_.layout.final_unit(); ++unit) {
        const AcquiredUnit acquired(access, unit);
    }
    with_head(access, [](const HeadTensors&) {});
}

void Transformer::follow_forward_backward(ParamAccess& access) {
    follow_evaluate(access);
    access.gradients_ready(context_.layout.final_unit());
    for (int unit = context_.layout.final_unit() - 1; unit >= 0; --unit) {
        { const AcquiredUnit acquired(access, unit); }
        access.gradients_ready(unit);
    }
}

std::unique_ptr<KvCache> Transformer::make_cache(int64_t batch, int64_t positions) {
    return std::make_unique<KvCache>(context_.config, context_.backend, context_.compute, batch,
                                     positions);
}

void Transformer::decode(ParamAccess& access, KvCache& cache, const Tensor& tokens,
                         const Tensor& logits) {
    const int64_t batch = tokens.shape()[0];
    const int64_t time = tokens.shape()[1];
    LATHE_CHECK(batch == cache.batch() && cache.length() + time <= cache.positions(),
                "decoding tokens {} after {} in a cache of {} sequences of {} tokens",
                tokens.shape().text(), cache.length(), cache.batch(), cache.positions());
    NormSaved embedding_norm;
    Buffer x = embed(access, tokens, cache.length(), embedding_norm);
    for (int64_t layer = 0; layer < context_.config.layers; ++layer) {
        const int unit = context_.layout.block_unit(layer);
        const AcquiredUnit acquired(access, unit);
        x = block(unit, acquired.row()).forward_cached(std::move(x), cache, layer);
    }
    cache.advance(time);
    Buffer last = context_.activation({batch, context_.config.channels});
    const Tensor rows = x.tensor().view({batch * time, context_.config.channels});
    for (int64_t b = 0; b < batch; ++b) {
        context_.backend.copy(last.tensor().slice(b, b + 1),
                              rows.slice((b + 1) * time - 1, (b + 1) * time), Stream::compute);
    }
    x.reset();
    with_head(access, [&](const HeadTensors& parameters) {
        head_logits(context_, parameters, std::move(last), logits);
    });
}

void Transformer::set_probe(Probe probe) { context_.probe = std::move(probe); }

void Transformer::check_tokens(const Tensor& tokens) const {
    LATHE_CHECK(tokens.shape().rank() == 2 && tokens.size() > 0 &&
                    tokens.shape()[1] <= context_.config.sequence_length,
                "tokens of shape {}: [B, T] with T from 1 to {} is needed", tokens.shape().text(),
                context_.config.sequence_length);
}

void Transformer::label(const char* phase, int unit) {
    context_.backend.label(phase, context_.layout.units()[static_cast<size_t>(unit)].name);
}

UnitView Transformer::view(int unit, const Tensor& row) const {
    return UnitView(context_.layout, unit, row);
}

Block Transformer::block(int unit, const Tensor& row) {
    return {context_, context_.layout.units()[static_cast<size_t>(unit)].name,
            BlockTensors(view(unit, row))};
}

HeadTensors Transformer::head_tensors(const Tensor& embedding_row, const Tensor& final_row) const {
    const UnitView final_view = view(context_.layout.final_unit(), final_row);
    const Tensor table = context_.config.tied_embeddings
                             ? view(context_.layout.embedding_unit(), embedding_row)["tokens"]
                             : final_view["head.weight"];
    return {norm_tensors(final_view, "final_norm"), table};
}

template <typename Use>
void Transformer::with_head(ParamAccess& access, Use use) {
    const AcquiredUnit final_unit(access, context_.layout.final_unit());
    std::optional<AcquiredUnit> embedding;
    if (context_.config.tied_embeddings) {
        embedding.emplace(access, context_.layout.embedding_unit());
    }
    use(head_tensors(embedding ? embedding->row() : Tensor(), final_unit.row()));
}

Buffer Transformer::embed(ParamAccess& access, const Tensor& tokens, int64_t first_position,
                          NormSaved& norm) {
    const int unit = context_.layout.embedding_unit();
    label("forward", unit);
    const AcquiredUnit acquired(access, unit);
    return embedding_forward(context_, EmbeddingTensors(view(unit, acquired.row())), tokens,
                             first_position, norm);
}

Buffer Transformer::forward_blocks(ParamAccess& access, Buffer x, Keep keep) {
    for (int64_t layer = 0; layer < context_.config.layers; ++layer) {
        const int unit = context_.layout.block_unit(layer);
        label("forward", unit);
        const AcquiredUnit acquired(access, unit);
        BlockSaved block_saved;
        x = block(unit, acquired.row()).forward(std::move(x), keep, block_saved);
        if (keep != Keep::nothing) {
            saved_.push_back(std::move(block_saved));
        }
    }
    return x;
}

Buffer Transformer::head_backward(ParamAccess& access, Buffer x, const Tensor& targets,
                                  float loss_scale, const Tensor& losses) {
    const int final_unit = context_.layout.final_unit();
    label("head", final_unit);
    const Tensor embedding_gradients = context_.config.tied_embeddings
                                           ? access.gradients(context_.layout.embedding_unit())
                                           : Tensor();
    const HeadTensors gradients = head_tensors(embedding_gradients, access.gradients(final_unit));
    Buffer d;
    with_head(access, [&](const HeadTensors& parameters) {
        d = head_forward_backward(context_, parameters, gradients, std::move(x), targets,
                                  loss_scale, losses);
    });
    access.gradients_ready(final_unit);
    return d;
}

void Transformer::backward_blocks(ParamAccess& access, const Tensor& d) {
    for (int64_t layer = context_.config.layers - 1; layer >= 0; --layer) {
        const int unit = context_.layout.block_unit(layer);
        label("backward", unit);
        {
            const AcquiredUnit acquired(access, unit);
            block(unit, acquired.row())
                .backward(std::move(saved_[static_cast<size_t>(layer)]),
                          BlockTensors(view(unit, access.gradients(unit))), d);
        }
        access.gradients_ready(unit);
    }
}

}  // namespace lathe
