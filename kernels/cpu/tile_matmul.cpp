#include "kernels/cpu/tile_matmul.h"

#include <cstdio>
#include <cstdlib>

#include "kernels/cpu/threads.h"
#include "kernels/error.h"

namespace lathe::cpu {
namespace {

using Memory = dnnl::memory;

Memory::data_type data_type(DType dtype) {
    return dtype == DType::bf16 ? Memory::data_type::bf16 : Memory::data_type::f32;
}

Memory::format_tag panel_tag(DType operand, int64_t width) {
    using Tag = Memory::format_tag;
    const bool pairs = operand == DType::bf16;
    switch (width) {
        case 64:
            return pairs ? Tag::BA16a64b2a : Tag::BA16a64b;
        case 48:
            return pairs ? Tag::BA16a48b2a : Tag::BA16a48b;
        case 32:
            return pairs ? Tag::BA16a32b2a : Tag::BA16a32b;
        case 16:
            return pairs ? Tag::BA16a16b2a : Tag::BA16a16b;
        default:
            return Tag::ab;
    }
}

/// One byte of nothing in particular: run() only ever sets addresses, and a memory without padding
/// is never written by setting one.
Memory raw_memory(const dnnl::engine& engine) {
    return Memory({{1}, Memory::data_type::u8, Memory::format_tag::a}, engine, DNNL_MEMORY_NONE);
}

}  // namespace

MatmulSupport MatmulSupport::detect() {
    // oneDNN's values for the instruction sets are bit sets: each contains those below it.
    const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    const auto has = [isa](dnnl::cpu_isa set) {
        const auto bits = static_cast<unsigned>(set);
        return (isa & bits) == bits;
    };
    return {.panels = has(dnnl::cpu_isa::avx512_core),
            .native_bf16 = has(dnnl::cpu_isa::avx512_core_bf16)};
}

PanelLayout MatmulSupport::layout(DType operand, int64_t n) const {
    if (!panels) {
        return {};
    }
    int64_t width = 64;
    if (n % 64 != 0) {
        if (n % 48 == 0) {
            width = 48;
        } else if (n < 64) {
            width = (n + 15) / 16 * 16;
        }
    }
    const bool pairs = operand == DType::bf16;
    return {.width = width, .pair = pairs ? 2 : 1, .depth = pairs ? 32 : 16};
}

size_t TileMatmul::SpecHash::operator()(const Spec& spec) const {
    size_t hash = 0;
    for (const int64_t value : {spec.m, spec.n, spec.k, static_cast<int64_t>(spec.operand),
                                spec.panel_width, static_cast<int64_t>(spec.accumulate)}) {
        hash = hash * 0x9E3779B97F4A7C15U + static_cast<size_t>(value);
    }
    return hash ^ (hash >> 32);
}

TileMatmul::TileMatmul(int num_threads) : engine_(dnnl::engine::kind::cpu, 0) {
    for (int i = 0; i < num_threads; ++i) {
        threads_.push_back({dnnl::stream(engine_), raw_memory(engine_), raw_memory(engine_),
                            raw_memory(engine_), raw_memory(engine_)});
    }
    scratchpads_.resize(threads_.size());
    constexpr int64_t kUsualScratchpadBytes = 4096;
    reserve_scratchpad(kUsualScratchpadBytes);
}

void TileMatmul::reserve_scratchpad(int64_t bytes) {
    if (bytes <= scratchpad_bytes_) {
        return;
    }
    constexpr int64_t kAlignment = 64;
    for (size_t i = 0; i < threads_.size(); ++i) {
        scratchpads_[i] = std::make_unique<std::byte[]>(static_cast<size_t>(bytes + kAlignment));
        const auto address = reinterpret_cast<uintptr_t>(scratchpads_[i].get());
        threads_[i].scratchpad.set_data_handle(scratchpads_[i].get() +
                                               (kAlignment - address % kAlignment) % kAlignment);
    }
    scratchpad_bytes_ = bytes;
}

TileMatmul::Primitive TileMatmul::get(const Spec& spec) {
    const auto found = primitives_.find(spec);
    return found != primitives_.end() ? &found->second : make(spec);
}

TileMatmul::Primitive TileMatmul::make(const Spec& spec) {
    // A primitive is cut for the number of threads at its creation.
    const SingleThreadScope single_thread;
    const auto operand = data_type(spec.operand);
    const Memory::desc a({spec.m, spec.k}, operand, Memory::format_tag::ab);
    const Memory::desc b({spec.k, spec.n}, operand, panel_tag(spec.operand, spec.panel_width));
    const Memory::desc d({spec.m, spec.n}, Memory::data_type::f32, Memory::format_tag::ab);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (spec.accumulate) {
        dnnl::post_ops post_ops;
        post_ops.append_sum(1.0F);
        attributes.set_post_ops(post_ops);
    }
    try {
        const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, d), attributes,
                                                       engine_);
        reserve_scratchpad(static_cast<int64_t>(description.scratchpad_desc().get_size()));
        return &primitives_.emplace(spec, dnnl::matmul(description)).first->second;
    } catch (const dnnl::error& error) {
        fail("Matmul: oneDNN refuses a [{}, {}] x [{}, {}] product of {}: {}", spec.m, spec.k,
             spec.k, spec.n, name_of(spec.operand), error.what());
    }
}

void TileMatmul::run(Primitive primitive, int thread, const void* a, const void* b,
                     float* d) noexcept {
    PerThread& own = threads_[static_cast<size_t>(thread)];
    dnnl_memory_set_data_handle(own.a.get(), const_cast<void*>(a));
    dnnl_memory_set_data_handle(own.b.get(), const_cast<void*>(b));
    dnnl_memory_set_data_handle(own.d.get(), d);
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, own.a.get()},
                                         {DNNL_ARG_WEIGHTS, own.b.get()},
                                         {DNNL_ARG_DST, own.d.get()},
                                         {DNNL_ARG_SCRATCHPAD, own.scratchpad.get()}};
    const dnnl_status_t status =
        dnnl_primitive_execute(primitive->get(), own.stream.get(), 4, arguments);
    if (status != dnnl_success) [[unlikely]] {
        // Inside a team of threads nothing can be thrown; a made primitive fails only when memory
        // for oneDNN's own few bytes is gone.
        std::fprintf(stderr, "lathe: oneDNN failed to run a product (status %d)\n",
                     static_cast<int>(status));
        std::abort();
    }
}

}  // namespace lathe::cpu
