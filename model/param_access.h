// ParamAccess: how a Transformer sees its parameters. Where they live, and on how many ranks, is
// the other side's affair.
#pragma once

#include "kernels/tensor.h"

namespace lathe {

class ParamAccess {
  public:
    virtual ~ParamAccess() = default;

    /// The unit's parameters as one flat row of the compute type, valid until release. Pairs may
    /// nest.
    virtual Tensor acquire(int unit) = 0;
    virtual void release(int unit) = 0;
    /// The unit's gradient row for this micro-batch, of the accumulation type: the same row at each
    /// call until gradients_ready. Contents are undefined at first: whoever writes a tensor first
    /// assigns it.
    virtual Tensor gradients(int unit) = 0;
    /// The unit's gradient for this micro-batch is complete; its row is no longer the caller's.
    virtual void gradients_ready(int unit) = 0;
};

/// Acquires a unit for a scope.
class AcquiredUnit {
  public:
    AcquiredUnit(ParamAccess& access, int unit)
        : access_(access), unit_(unit), row_(access.acquire(unit)) {}
    AcquiredUnit(const AcquiredUnit&) = delete;
    AcquiredUnit& operator=(const AcquiredUnit&) = delete;
    ~AcquiredUnit() { access_.release(unit_); }

    const Tensor& row() const { return row_; }

  private:
    ParamAccess& access_;
    int unit_;
    Tensor row_;
};

}  // namespace lathe
