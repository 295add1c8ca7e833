#include "kernels/cpu/cpu_backend.h"

#include <hwy/highway.h>

#include <cstring>
#include <fstream>
#include <mutex>

#include "kernels/cpu/cpu_backend_impl.h"
#include "kernels/cpu/threads.h"

namespace lathe::cpu {
namespace {

constexpr int64_t kCopyGrainBytes = int64_t{64} << 10;

/// Makes Highway's kernels honour ONEDNN_MAX_CPU_ISA as oneDNN does, so that one variable shows
/// what a lesser processor would do. Once, before the first kernel is chosen.
void limit_instruction_sets() {
    static std::once_flag once;
    std::call_once(once, [] {
        const auto has = [](dnnl::cpu_isa set) {
            const auto bits = static_cast<unsigned>(set);
            return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & bits) == bits;
        };
        int64_t beyond = 0;
        if (!has(dnnl::cpu_isa::avx512_core)) {
            beyond |= HWY_AVX3 | HWY_AVX3_DL;
        }
        if (!has(dnnl::cpu_isa::avx2)) {
            beyond |= HWY_AVX2;
        }
        hwy::DisableTargets(beyond);
        hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    });
}

std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    std::string line;
    while (std::getline(file, line)) {
        if (line.starts_with("model name")) {
            const auto colon = line.find(": ");
            return colon == std::string::npos ? line : line.substr(colon + 2);
        }
    }
    return "unknown processor";
}

const char* widest_instruction_set() {
    switch (dnnl::get_effective_cpu_isa()) {
        case dnnl::cpu_isa::avx512_core_amx:
            return "AMX";
        case dnnl::cpu_isa::avx512_core_bf16:
            return "AVX512_BF16";
        case dnnl::cpu_isa::avx512_core_vnni:
        case dnnl::cpu_isa::avx512_core:
            return "AVX-512";
        case dnnl::cpu_isa::avx2_vnni:
        case dnnl::cpu_isa::avx2:
            return "AVX2";
        case dnnl::cpu_isa::avx:
            return "AVX";
        default:
            return "SSE4";
    }
}

}  // namespace

CpuBackend::CpuBackend(int num_threads) : support_(MatmulSupport::detect()), tiles_(num_threads) {
    limit_instruction_sets();
    device_.kind = "cpu";
    device_.name = processor_name() + ", " + widest_instruction_set();
    device_.num_threads = num_threads;
    device_.offload = OffloadMemory::files;
    device_.preferred_dtype = support_.native_bf16 ? DType::bf16 : DType::f32;
    scratch_ = static_cast<std::byte*>(pool_.allocate(num_threads * kThreadScratchBytes));
    LATHE_CHECK(scratch_ != nullptr, "out of memory: scratch of {} threads", num_threads);
}

CpuBackend::~CpuBackend() { pool_.free(scratch_, num_threads() * kThreadScratchBytes); }

void CpuBackend::copy_bytes(void* destination, const void* source, int64_t bytes) const {
    parallel_ranges(team(), bytes, kCopyGrainBytes, [&](int64_t begin, int64_t end) {
        std::memmove(static_cast<std::byte*>(destination) + begin,
                     static_cast<const std::byte*>(source) + begin,
                     static_cast<size_t>(end - begin));
    });
}

void CpuBackend::execute_copy(const Tensor& destination, const Tensor& source, Stream) {
    LATHE_CHECK(destination.dtype() == source.dtype() && destination.size() == source.size(),
                "copy: {} of {} to {} of {}", source.shape().text(), name_of(source.dtype()),
                destination.shape().text(), name_of(destination.dtype()));
    copy_bytes(destination.data(), source.data(), source.bytes());
}

void CpuBackend::execute_copy_from_host(const Tensor& destination, const void* source) {
    copy_bytes(destination.data(), source, destination.bytes());
}

void CpuBackend::execute_copy_to_host(void* destination, const Tensor& source) {
    copy_bytes(destination, source.data(), source.bytes());
}

void CpuBackend::execute_fill_zero(const Tensor& tensor, Stream) {
    parallel_ranges(team(), tensor.bytes(), kCopyGrainBytes, [&](int64_t begin, int64_t end) {
        std::memset(static_cast<std::byte*>(tensor.data()) + begin, 0,
                    static_cast<size_t>(end - begin));
    });
}

}  // namespace lathe::cpu

namespace lathe {

std::unique_ptr<Backend> make_cpu_backend(int num_threads) {
    LATHE_CHECK(num_threads >= 1, "the CPU backend needs at least 1 thread, not {}", num_threads);
    return std::make_unique<cpu::CpuBackend>(num_threads);
}

}  // namespace lathe
