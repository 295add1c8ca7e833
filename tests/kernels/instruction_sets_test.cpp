// ONEDNN_MAX_CPU_ISA limits Lathe's own kernels as it limits oneDNN's. CTest runs this and the
// operations once more with it set (lathe_lesser_processor_test).
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cstdlib>
#include <oneapi/dnnl/dnnl.hpp>
#include <string_view>

#include "kernels/cpu/cpu_backend.h"

namespace lathe::test {
namespace {

TEST(InstructionSets, AreLimitedAsOneDnnsAre) {
    const auto backend = make_cpu_backend(1);
    const bool avx512 = dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core;
    EXPECT_EQ((hwy::SupportedTargets() & (HWY_AVX3 | HWY_AVX3_DL)) != 0, avx512)
        << backend->device().name;
    const char* limit = std::getenv("ONEDNN_MAX_CPU_ISA");
    if (limit != nullptr && std::string_view(limit) == "AVX2") {
        EXPECT_FALSE(avx512);
        EXPECT_TRUE(backend->device().name.ends_with("AVX2")) << backend->device().name;
        EXPECT_EQ(backend->device().preferred_dtype, DType::f32);
    }
}

}  // namespace
}  // namespace lathe::test
