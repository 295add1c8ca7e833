// Matmul through cuBLASLt: the same operation, so the same cases and the same promises.
#include <gtest/gtest.h>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/cases.h"

namespace lathe::test {
namespace {

class CublasMatmul : public testing::TestWithParam<DType> {
  protected:
    std::unique_ptr<Backend> backend_ = make_cuda_backend({.matmul = MatmulLibrary::cublas});
};
INSTANTIATE_TEST_SUITE_P(Types, CublasMatmul, testing::Values(DType::f32, DType::bf16),
                         [](const auto& type) { return std::string(name_of(type.param)); });

TEST_P(CublasMatmul, AgreesWithReference) {
    const auto reference = make_reference_backend();
    Random random(20240602);
    for (const Case& c : random_cases_Matmul(GetParam(), random)) {
        expect_same(c, *backend_, c, *reference);
    }
}

// The library's own GELU is another function: of the value before it is rounded.
TEST_P(CublasMatmul, FusedActivationEqualsSeparate) {
    Random random(11);
    for (const bool keep : {false, true}) {
        for (const auto activation : {Activation::gelu_exact, Activation::gelu_tanh}) {
            Case c("Matmul, Matmul with gelu, Gelu");
            const size_t a = c.input("a", GetParam(), {19, 40}, random.normal(19 * 40));
            const size_t b = c.input("b", GetParam(), {33, 40}, random.normal(33 * 40));
            const size_t bias = c.input("bias", GetParam(), {33}, random.normal(33));
            const size_t before = c.output("before", GetParam(), {19, 33}, {});
            const size_t fused = c.output("fused", GetParam(), {19, 33}, {});
            const size_t separate = c.output("separate", GetParam(), {19, 33}, {});
            c.issue = [=](GuardedRunner& runner, Tensors t) {
                Matmul op{.a = t[a], .b = t[b], .d = t[before], .transpose_b = true};
                op.bias = t[bias];
                runner.run(op);
                op.d = t[fused];
                op.activation = activation;
                op.pre_activation = keep ? t[before] : Tensor();
                runner.run(op);
                runner.run(Gelu{.activation = activation, .x = t[before], .y = t[separate]});
            };
            const auto results = run_case(c, *backend_);
            EXPECT_EQ(results[fused], results[separate]) << keep;
        }
    }
}

}  // namespace
}  // namespace lathe::test
