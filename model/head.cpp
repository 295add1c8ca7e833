#include "model/head.h"

#include <algorithm>

namespace lathe {

namespace {

/// The final norm's output as rows, with what its backward needs.
NormSaved final_norm(ModelContext& context, const HeadTensors& parameters, const Tensor& x) {
    NormSaved norm = norm_forward(context, parameters.norm, x);
    context.observe("head", "norm", norm.y);
    return norm;
}

/// Logits of one chunk and their cross-entropy.
class ChunkLoss {
  public:
    ChunkLoss(ModelContext& context, const Tensor& table, int64_t rows, bool with_gradient)
        : context_(context), table_(table), chunk_rows_(head_chunk_rows(rows, table.shape()[0])) {
        const Shape shape = {chunk_rows_, table.shape()[0]};
        logits_ = context.statistic(shape);
        // The gradient takes the logits' place when the types agree.
        if (with_gradient && context.compute != context.accumulation) {
            d_logits_ = context.activation(shape);
        }
    }

    int64_t chunk_rows() const { return chunk_rows_; }

    void losses(const Tensor& x, const Tensor& targets, const Tensor& losses) {
        run(x, targets, losses, 1.0F, {});
    }

    /// Returns d_logits of the chunk, valid until the next one.
    Tensor losses_and_gradient(const Tensor& x, const Tensor& targets, const Tensor& losses,
                               float loss_scale) {
        const Tensor d_logits = (d_logits_ ? d_logits_ : logits_).tensor().slice(0, x.shape()[0]);
        run(x, targets, losses, loss_scale, d_logits);
        return d_logits;
    }

  private:
    void run(const Tensor& x, const Tensor& targets, const Tensor& losses, float scale,
             const Tensor& d_logits) {
        const Tensor logits = logits_.tensor().slice(0, x.shape()[0]);
        linear_forward(context_, {table_, {}}, x, logits);
        context_.observe("head", "logits", logits);
        context_.workspace.run(CrossEntropy{.logits = logits,
                                            .targets = targets,
                                            .vocabulary = context_.config.vocabulary_size,
                                            .scale = scale,
                                            .losses = losses,
                                            .d_logits = d_logits});
        context_.observe("head", "losses", losses);
    }

    ModelContext& context_;
    Tensor table_;
    int64_t chunk_rows_;
    Buffer logits_;    // [chunk_rows, V'] accumulation
    Buffer d_logits_;  // [chunk_rows, V'] compute
};

}  // namespace

int64_t head_chunk_rows(int64_t rows, int64_t padded_vocabulary) {
    constexpr int64_t kFewestRows = 512;
    constexpr int64_t kUncachedRows = 1024;
    constexpr int64_t kCachedElements = int64_t{1} << 21;
    constexpr int64_t kMostElements = int64_t{1} << 25;
    const bool too_many_for_caches = kFewestRows * padded_vocabulary > 4 * kCachedElements;
    const bool uncached = too_many_for_caches && kUncachedRows * padded_vocabulary <= kMostElements;
    const int64_t fewest = uncached ? kUncachedRows : kFewestRows;
    return std::min(rows, std::max(fewest, kCachedElements / padded_vocabulary));
}

void head_losses(ModelContext& context, const HeadTensors& parameters, Buffer x,
                 const Tensor& targets, const Tensor& losses) {
    const int64_t rows = x.tensor().rows();
    const Buffer normed = std::move(final_norm(context, parameters, x).y);
    x.reset();
    const Tensor y = normed.tensor().view({rows, context.config.channels});
    ChunkLoss chunk(context, parameters.table, rows, false);
    for (int64_t begin = 0; begin < rows; begin += chunk.chunk_rows()) {
        const int64_t end = std::min(rows, begin + chunk.chunk_rows());
        chunk.losses(y.slice(begin, end), targets.flat().slice(begin, end),
                     losses.flat().slice(begin, end));
    }
}

Buffer head_forward_backward(ModelContext& context, const HeadTensors& parameters,
                             const HeadTensors& gradients, Buffer x, const Tensor& targets,
                             float loss_scale, const Tensor& losses) {
    const int64_t rows = x.tensor().rows();
    NormSaved norm = final_norm(context, parameters, x);
    const Tensor y = norm.y.tensor().view({rows, context.config.channels});
    {
        ChunkLoss chunk(context, parameters.table, rows, true);
        for (int64_t begin = 0; begin < rows; begin += chunk.chunk_rows()) {
            const int64_t end = std::min(rows, begin + chunk.chunk_rows());
            const Tensor y_chunk = y.slice(begin, end);
            const Tensor d_logits =
                chunk.losses_and_gradient(y_chunk, targets.flat().slice(begin, end),
                                          losses.flat().slice(begin, end), loss_scale);
            context.workspace.run(Matmul{.a = d_logits,
                                         .b = y_chunk,
                                         .d = gradients.table,
                                         .transpose_a = true,
                                         .accumulate = begin > 0});
            // The chunk is used up: the gradient takes its place.
            linear_backward_input(context, {parameters.table, {}}, d_logits, y_chunk);
        }
    }
    Buffer d = std::move(norm.y);
    norm_backward(context, parameters.norm, gradients.norm, norm, x, d, {}, d);
    return d;
}

void head_logits(ModelContext& context, const HeadTensors& parameters, Buffer x,
                 const Tensor& logits) {
    const NormSaved norm = final_norm(context, parameters, x);
    linear_forward(context, {parameters.table, {}}, norm.y, logits);
    context.observe("head", "logits", logits);
}

}  // namespace lathe
