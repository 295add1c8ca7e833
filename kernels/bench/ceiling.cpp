#include "kernels/bench/ceiling.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "kernels/bench/case_tensors.h"

namespace lathe::bench {

namespace {
/// Several times the caches of processors and GPUs.
constexpr int64_t kVectorBytes = int64_t{256} << 20;
}  // namespace

/// A large square product, and the best rate it has been seen at.
class Ceiling::Square {
  public:
    virtual ~Square() = default;

    void measure() {
        const auto n = static_cast<double>(size());
        best_ = std::max(best_, 2.0 * n * n * n / seconds());
    }
    double flops_per_second() const { return best_; }

  protected:
    virtual int64_t size() const = 0;
    /// That one product takes.
    virtual double seconds() = 0;

  private:
    double best_ = 0.0;
};

class Ceiling::OneDnnSquare final : public Square {
  public:
    /// Throws dnnl::error where oneDNN has no such product on this processor.
    OneDnnSquare(Backend& backend, dnnl::memory::data_type type)
        : backend_(backend), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
        omp_set_num_threads(backend.device().num_threads);
        using Memory = dnnl::memory;
        const Memory::desc any({kSize, kSize}, type, Memory::format_tag::any);
        const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(any, any, any), engine_);
        product_ = dnnl::matmul(description);
        arguments_ = {{DNNL_ARG_SRC, zeroed(description.src_desc())},
                      {DNNL_ARG_WEIGHTS, zeroed(description.weights_desc())},
                      {DNNL_ARG_DST, zeroed(description.dst_desc())}};
    }

  private:
    static constexpr int64_t kSize = 2048;

    dnnl::memory zeroed(const dnnl::memory::desc& description) {
        dnnl::memory memory(description, engine_);
        std::memset(memory.get_data_handle(), 0, description.get_size());
        return memory;
    }
    int64_t size() const override { return kSize; }
    double seconds() override {
        return backend_.seconds_of([this] {
            product_.execute(stream_, arguments_);
            stream_.wait();
        });
    }

    Backend& backend_;
    dnnl::engine engine_;
    dnnl::stream stream_;
    dnnl::matmul product_;
    std::unordered_map<int, dnnl::memory> arguments_;
};

/// The size grows while products are quick: a large GPU needs many tiles for each of its
/// multiprocessors, a slow device shall be measured soon.
class Ceiling::BackendSquare final : public Square {
  public:
    BackendSquare(Backend& backend, DType dtype) : workspace_(backend), dtype_(dtype) {
        prepare(kSmallest);
        while (size_ < kLargest && seconds() < kQuickSeconds) {
            prepare(2 * size_);
        }
    }

  private:
    static constexpr int64_t kSmallest = 256;
    static constexpr int64_t kLargest = 8192;
    static constexpr double kQuickSeconds = 1e-3;

    void prepare(int64_t size) {
        size_ = size;
        tensors_ = std::make_unique<AllocatedTensors>(workspace_.backend());
        product_ = {.a = tensors_->make({size, size}, dtype_),
                    .b = tensors_->make({size, size}, dtype_),
                    .d = tensors_->make({size, size}, dtype_)};
        workspace_.run(product_);  // sets up what is kept
    }
    int64_t size() const override { return size_; }
    double seconds() override {
        return workspace_.backend().seconds_of([this] { workspace_.run(product_); });
    }

    Workspace workspace_;
    DType dtype_;
    int64_t size_ = 0;
    std::unique_ptr<AllocatedTensors> tensors_;
    Matmul product_;
};

Ceiling::Ceiling(Backend& backend, Backend* library)
    : backend_(backend),
      adder_(backend),
      copied_(backend.allocate({kVectorBytes / 4}, DType::f32, MemoryCategory::workspace)),
      copy_(backend.allocate({kVectorBytes / 4}, DType::f32, MemoryCategory::workspace)) {
    backend.fill_zero(copied_, Stream::compute);
    backend.fill_zero(copy_, Stream::compute);
    if (backend.device().kind != "cpu") {
        Backend& multiplier = library != nullptr ? *library : backend;
        f32_ = std::make_unique<BackendSquare>(multiplier, DType::f32);
        bf16_ = std::make_unique<BackendSquare>(multiplier, DType::bf16);
        return;
    }
    f32_ = std::make_unique<OneDnnSquare>(backend, dnnl::memory::data_type::f32);
    try {
        bf16_ = std::make_unique<OneDnnSquare>(backend, dnnl::memory::data_type::bf16);
    } catch (const dnnl::error&) {
        // Without bf16 instructions products in bf16 are done in f32.
        bf16_ = std::make_unique<OneDnnSquare>(backend, dnnl::memory::data_type::f32);
    }
}

Ceiling::~Ceiling() = default;

void Ceiling::measure(DType dtype) {
    constexpr int kRuns = 3;
    for (int run = 0; run < kRuns; ++run) {
        (dtype == DType::bf16 ? *bf16_ : *f32_).measure();
        // Whichever is faster: on a processor a copy also reads what it overwrites.
        const double copy_seconds =
            backend_.seconds_of([this] { backend_.copy(copy_, copied_, Stream::compute); });
        const Tensor contributions[] = {copied_};
        const double add_seconds = backend_.seconds_of(
            [&] { adder_.run(Accumulate{.sum = copy_, .contributions = contributions}); });
        const auto bytes = static_cast<double>(kVectorBytes);
        bytes_per_second_ =
            std::max({bytes_per_second_, 2.0 * bytes / copy_seconds, 3.0 * bytes / add_seconds});
    }
}

double Ceiling::flops_per_second(DType dtype) const {
    return (dtype == DType::bf16 ? *bf16_ : *f32_).flops_per_second();
}

}  // namespace lathe::bench
