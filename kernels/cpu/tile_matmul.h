// TileMatmul: small matrix products on one thread each, by oneDNN. Everything that multiplies
// matrices on the CPU (Matmul, attention) cuts its output into tiles by shapes alone and gives each
// tile to one thread, so results cannot depend on the number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "kernels/dtype.h"

namespace lathe::cpu {

/// How the right operand of a product lies in memory: panels of `width` columns one after another;
/// a panel is [ceil(K / depth)][width][pair], pairs of rows interleaved (bf16) or not (pair 1),
/// rows and columns that do not exist being 0. width 0 means plain row-major [K, N].
struct PanelLayout {
    int64_t width = 0;
    int64_t pair = 1;
    int64_t depth = 1;  ///< K is padded to a multiple of this

    int64_t padded_k(int64_t k) const { return (k + depth - 1) / depth * depth; }
    int64_t padded_n(int64_t n) const { return width == 0 ? n : (n + width - 1) / width * width; }
    /// Elements of a packed [k, n] operand.
    int64_t size(int64_t k, int64_t n) const { return padded_k(k) * padded_n(n); }
};

/// What the processor (and ONEDNN_MAX_CPU_ISA) offers to products.
struct MatmulSupport {
    bool panels = false;       ///< AVX-512: the right operand is packed in panels
    bool native_bf16 = false;  ///< AVX512_BF16 or AMX; otherwise bf16 is multiplied as f32
    static MatmulSupport detect();

    /// In which type operands of `dtype` are multiplied.
    DType operand_dtype(DType dtype) const {
        return dtype == DType::bf16 && !native_bf16 ? DType::f32 : dtype;
    }
    /// Layout for a right operand of n columns, of an operand type.
    PanelLayout layout(DType operand, int64_t n) const;
};

class TileMatmul {
  public:
    /// d[m, n] (f32, dense) = or += a[m, k] (dense rows) b[k, n] (packed by `layout`).
    struct Spec {
        int64_t m = 0;
        int64_t n = 0;
        int64_t k = 0;
        DType operand = DType::f32;
        int64_t panel_width = 0;
        bool accumulate = false;
        bool operator==(const Spec&) const = default;
    };
    using Primitive = const dnnl::primitive*;

    explicit TileMatmul(int num_threads);

    /// The product for `spec`, made on first use. Threads of a team may call it only for what was
    /// made before they started.
    Primitive get(const Spec& spec);
    /// Runs on the calling thread, which is number `thread` of its team.
    void run(Primitive primitive, int thread, const void* a, const void* b, float* d) noexcept;

    int64_t num_primitives_created() const { return static_cast<int64_t>(primitives_.size()); }

  private:
    struct SpecHash {
        size_t operator()(const Spec& spec) const;
    };
    /// oneDNN's objects are not to be shared between threads that change their addresses.
    struct PerThread {
        dnnl::stream stream;
        dnnl::memory a;
        dnnl::memory b;
        dnnl::memory d;
        dnnl::memory scratchpad;
    };

    Primitive make(const Spec& spec);
    void reserve_scratchpad(int64_t bytes);

    dnnl::engine engine_;
    std::vector<PerThread> threads_;
    int64_t scratchpad_bytes_ = 0;
    std::vector<std::unique_ptr<std::byte[]>> scratchpads_;
    std::unordered_map<Spec, dnnl::primitive, SpecHash> primitives_;
};

}  // namespace lathe::cpu
