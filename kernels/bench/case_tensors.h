// Where the tensors of a benchmark's case come from.
#pragma once

#include <deque>
#include <span>
#include <vector>

#include "kernels/backend.h"

namespace lathe::bench {

class CaseTensors {
  public:
    virtual ~CaseTensors() = default;

    /// Small numbers of both signs.
    virtual Tensor make(Shape shape, DType dtype) = 0;
    virtual Tensor make_positive(Shape shape, DType dtype) = 0;
    /// i32, each in [0, vocabulary).
    virtual Tensor make_tokens(Shape shape, int64_t vocabulary) = 0;
    /// The tensor as a list of one, kept as long as this.
    std::span<const Tensor> list(const Tensor& tensor) {
        return {&listed_.emplace_back(tensor), 1};
    }

  private:
    std::deque<Tensor> listed_;
};

/// Without memory: to ask what an operation costs.
class ShapesOnly final : public CaseTensors {
  public:
    Tensor make(Shape shape, DType dtype) override { return {nullptr, dtype, shape}; }
    Tensor make_positive(Shape shape, DType dtype) override { return make(shape, dtype); }
    Tensor make_tokens(Shape shape, int64_t) override { return make(shape, DType::i32); }
};

/// On a backend, filled, kept as long as this.
class AllocatedTensors final : public CaseTensors {
  public:
    explicit AllocatedTensors(Backend& backend) : backend_(backend) {}

    Tensor make(Shape shape, DType dtype) override;
    Tensor make_positive(Shape shape, DType dtype) override;
    Tensor make_tokens(Shape shape, int64_t vocabulary) override;

  private:
    Tensor allocate(Shape shape, DType dtype);
    /// `period` elements of the host, repeated.
    void fill(const Tensor& tensor, const void* period, int64_t elements);
    void fill_with_numbers(const Tensor& tensor, float offset);

    Backend& backend_;
    std::vector<Buffer> buffers_;
};

}  // namespace lathe::bench
