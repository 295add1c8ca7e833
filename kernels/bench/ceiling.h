// What a device can do at most, measured beside the kernels: a large square product, and vectors
// far larger than the caches, copied and added.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace lathe::bench {

class Ceiling {
  public:
    /// Products by `library`, a backend of the same device whose Matmul is a library's, where there
    /// is one; on a CPU by oneDNN in the layouts that it likes best.
    Ceiling(Backend& backend, Backend* library);
    ~Ceiling();

    /// Runs each some more times; the best so far counts, since other load only ever makes it
    /// slower.
    void measure(DType dtype);
    /// Fills the caches with other data, so that what is measured next finds nothing of its own.
    void flush_caches() { backend_.copy(copy_, copied_, Stream::compute); }
    double flops_per_second(DType dtype) const;
    double bytes_per_second() const { return bytes_per_second_; }

  private:
    class Square;
    class OneDnnSquare;
    class BackendSquare;

    Backend& backend_;
    std::unique_ptr<Square> f32_;
    std::unique_ptr<Square> bf16_;
    Workspace adder_;
    Buffer copied_;
    Buffer copy_;
    double bytes_per_second_ = 0.0;
};

}  // namespace lathe::bench
