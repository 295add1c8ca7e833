#include "kernels/bench/ceiling.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "kernels/bench/timer.h"

namespace lathe::bench {

namespace {
constexpr int64_t kSquare = 2048;
constexpr size_t kCopyBytes = size_t{256} << 20;
}  // namespace

/// One large square product, in the layouts that oneDNN likes best.
class Ceiling::Square {
  public:
    explicit Square(dnnl::memory::data_type type) : engine_(dnnl::engine::kind::cpu, 0) {
        using Memory = dnnl::memory;
        const Memory::desc any({kSquare, kSquare}, type, Memory::format_tag::any);
        const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(any, any, any), engine_);
        product_ = dnnl::matmul(description);
        arguments_ = {{DNNL_ARG_SRC, zeroed(description.src_desc())},
                      {DNNL_ARG_WEIGHTS, zeroed(description.weights_desc())},
                      {DNNL_ARG_DST, zeroed(description.dst_desc())}};
    }

    void measure() {
        dnnl::stream stream(engine_);
        const double seconds = seconds_of([&] {
            product_.execute(stream, arguments_);
            stream.wait();
        });
        best_ = std::max(best_, 2.0 * kSquare * kSquare * kSquare / seconds);
    }
    double flops_per_second() const { return best_; }

  private:
    dnnl::memory zeroed(const dnnl::memory::desc& description) {
        dnnl::memory memory(description, engine_);
        std::memset(memory.get_data_handle(), 0, description.get_size());
        return memory;
    }

    dnnl::engine engine_;
    dnnl::matmul product_;
    std::unordered_map<int, dnnl::memory> arguments_;
    double best_ = 0;
};

Ceiling::Ceiling(int num_threads)
    : num_threads_(num_threads), copy_source_(kCopyBytes, 1), copy_destination_(kCopyBytes, 1) {
    omp_set_num_threads(num_threads);
    f32_ = std::make_unique<Square>(dnnl::memory::data_type::f32);
    try {
        bf16_ = std::make_unique<Square>(dnnl::memory::data_type::bf16);
    } catch (const dnnl::error&) {
        bf16_ = nullptr;
    }
}

Ceiling::~Ceiling() = default;

void Ceiling::measure() {
    f32_->measure();
    if (bf16_ != nullptr) {
        bf16_->measure();
    }
    const size_t share = kCopyBytes / static_cast<size_t>(num_threads_);
    const double seconds = seconds_of([&] {
#pragma omp parallel for num_threads(num_threads_) schedule(static, 1)
        for (int i = 0; i < num_threads_; ++i) {
            const size_t begin = static_cast<size_t>(i) * share;
            std::memcpy(copy_destination_.data() + begin, copy_source_.data() + begin, share);
        }
    });
    bytes_per_second_ =
        std::max(bytes_per_second_, 2.0 * static_cast<double>(share) * num_threads_ / seconds);
}

double Ceiling::flops_per_second(DType dtype) const {
    const Square* square = dtype == DType::bf16 && bf16_ != nullptr ? bf16_.get() : f32_.get();
    return square->flops_per_second();
}

}  // namespace lathe::bench
