// What this machine can do at most, measured beside the kernels: large square products by oneDNN,
// and a copy far larger than the caches.
#pragma once

#include <memory>
#include <vector>

#include "kernels/dtype.h"

namespace lathe::bench {

class Ceiling {
  public:
    explicit Ceiling(int num_threads);
    ~Ceiling();

    /// Runs each once more; the best so far counts, since other load only ever makes it slower.
    void measure();
    double flops_per_second(DType dtype) const;
    double bytes_per_second() const { return bytes_per_second_; }

  private:
    class Square;

    int num_threads_;
    std::unique_ptr<Square> f32_;
    std::unique_ptr<Square> bf16_;  ///< null where oneDNN has no bf16
    std::vector<char> copy_source_;
    std::vector<char> copy_destination_;
    double bytes_per_second_ = 0;
};

}  // namespace lathe::bench
