// What tolerances cannot ask: NaN that must get through, intermediate and random rounding to the
// bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/random.h"
#include "tests/kernels/backends.h"
#include "tests/kernels/operation_case.h"
#include "tests/support/random_values.h"

namespace lathe::test {
namespace {

class SpecialValues : public testing::TestWithParam<BackendUnderTest> {
  protected:
    std::vector<double> run(const Case& c, size_t argument) {
        return to_doubles(run_case(c, *backend_)[argument], c.arguments[argument].dtype);
    }
    std::unique_ptr<Backend> backend_ = GetParam().make(2);
};

std::string name_of_backend(const testing::TestParamInfo<BackendUnderTest>& info) {
    return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Backends, SpecialValues, testing::ValuesIn(backends_under_test()),
                         name_of_backend);

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The trainer skips a step whose gradient norm is not finite: it must not be lost on the way.
TEST_P(SpecialValues, SquaredNormOfNanAndInfinity) {
    std::vector<double> values(3 * 4096 + 7, 1.0);
    values[5] = kNan;
    values[4096 + 77] = -kInfinity;
    Case c("SquaredNorm");
    const size_t x = c.input("x", DType::f32, {std::ssize(values)}, values);
    const size_t partial = c.output("partial", DType::f64, {4}, {});
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(SquaredNorm{.x = t[x], .partial = t[partial]});
    };
    const std::vector<double> got = run(c, partial);
    EXPECT_TRUE(std::isnan(got[0]));
    EXPECT_EQ(got[1], kInfinity);
    EXPECT_EQ(got[2], 4096);
    EXPECT_EQ(got[3], 7);
}

TEST_P(SpecialValues, LossOfNanLogits) {
    for (const size_t position : {0, 5, 36}) {
        std::vector<double> values(2 * 40, 0.5);
        values[position] = kNan;
        Case c("CrossEntropy");
        const size_t logits = c.input("logits", DType::f32, {2, 40}, values);
        const size_t targets = c.input("targets", DType::i32, {2}, {3, 4});
        const size_t losses = c.output("losses", DType::f32, {2}, {});
        c.issue = [=](GuardedRunner& runner, Tensors t) {
            runner.run(CrossEntropy{
                .logits = t[logits], .targets = t[targets], .vocabulary = 37, .losses = t[losses]});
        };
        const std::vector<double> got = run(c, losses);
        EXPECT_TRUE(std::isnan(got[0])) << "NaN at " << position;
        EXPECT_NEAR(got[1], std::log(37.0), 1e-5);
    }
}

// A NaN in a query reaches its own token alone; one in a value reaches every later token. (Earlier
// tokens may see it too: a block of scores holds zeros above the diagonal, and 0 NaN is NaN.)
TEST_P(SpecialValues, AttentionOfNan) {
    constexpr int64_t kTime = 70;
    for (const int64_t column : {3, 40}) {  // a query, a value
        std::vector<double> values(kTime * 48, 0.25);
        values[50 * 48 + static_cast<size_t>(column)] = kNan;
        Case c("Attention");
        const size_t qkv = c.input("qkv", DType::f32, {1, kTime, 48}, values);
        const size_t y = c.output("y", DType::f32, {1, kTime, 16}, {});
        const size_t statistics = c.output("log_sum_exp", DType::f32, {1, 1, kTime}, {});
        c.issue = [=](GuardedRunner& runner, Tensors t) {
            runner.run(Attention{
                .heads = {1, 1, 16}, .qkv = t[qkv], .y = t[y], .log_sum_exp = t[statistics]});
        };
        const std::vector<double> got = run(c, y);
        const auto is_nan = [&](size_t t) { return std::isnan(got[t * 16 + 8]); };
        EXPECT_TRUE(is_nan(50));
        EXPECT_EQ(is_nan(51), column == 40);
        EXPECT_EQ(is_nan(69), column == 40);
        EXPECT_FALSE(is_nan(0) && column == 3);
    }
}

// Recomputation gets the value before the activation, or the sum before the norm, from memory, and
// must come to the same bits as the fused operation did.
TEST_P(SpecialValues, FusedActivationEqualsSeparate) {
    Random random(11);
    // m, n, k: a few rows, odd sizes, whole tiles.
    const int64_t sizes[][3] = {{1, 64, 72}, {19, 33, 40}, {128, 256, 64}};
    for (const auto& [m, n, k] : sizes) {
        for (const DType dtype : {DType::f32, DType::bf16}) {
            for (const Activation activation : {Activation::gelu_exact, Activation::gelu_tanh}) {
                for (const bool keep : {false, true}) {
                    Case c("Matmul then Gelu");
                    const size_t a = c.input("a", dtype, {m, k}, random.normal(m * k));
                    const size_t b = c.input("b", dtype, {n, k}, random.normal(n * k, 0.3));
                    const size_t before = c.output("before", dtype, {m, n}, {});
                    const size_t fused = c.output("fused", dtype, {m, n}, {});
                    const size_t separate = c.output("separate", dtype, {m, n}, {});
                    c.issue = [=](GuardedRunner& runner, Tensors t) {
                        Matmul op{.a = t[a], .b = t[b], .d = t[before], .transpose_b = true};
                        runner.run(op);
                        op.d = t[fused];
                        op.activation = activation;
                        op.pre_activation = keep ? t[before] : Tensor();
                        runner.run(op);
                        runner.run(
                            Gelu{.activation = activation, .x = t[before], .y = t[separate]});
                    };
                    const auto results = run_case(c, *backend_);
                    EXPECT_EQ(results[fused], results[separate])
                        << name_of(dtype) << " " << m << "x" << n << "x" << k << " "
                        << static_cast<int>(activation) << " " << keep;
                }
            }
        }
    }
}

TEST_P(SpecialValues, NormWithResidualEqualsNormOfSum) {
    Random random(12);
    for (const DType dtype : {DType::f32, DType::bf16}) {
        Case c("Norm");
        const Shape shape = {17, 100};
        const size_t x = c.input("x", dtype, shape, random.normal(shape.size()));
        const size_t residual = c.input("residual", dtype, shape, random.normal(shape.size()));
        const size_t weight = c.input("weight", dtype, {100}, random.normal(100));
        const size_t sum = c.output("sum", dtype, shape, {});
        const size_t rstd = c.output("rstd", DType::f32, {17}, {});
        const size_t fused = c.output("fused", dtype, shape, {});
        const size_t separate = c.output("separate", dtype, shape, {});
        c.issue = [=](GuardedRunner& runner, Tensors t) {
            Norm op{.kind = NormKind::rmsnorm,
                    .x = t[x],
                    .residual = t[residual],
                    .sum = t[sum],
                    .weight = t[weight],
                    .y = t[fused],
                    .rstd = t[rstd]};
            runner.run(op);
            op.x = t[sum];
            op.residual = op.sum = Tensor();
            op.y = t[separate];
            runner.run(op);
        };
        const auto results = run_case(c, *backend_);
        EXPECT_EQ(results[fused], results[separate]) << name_of(dtype);
    }
}

/// With no gradient, decay or learning rate the master stays, and only its rounding is seen.
std::vector<std::byte> rounded_parameters(Backend& backend, const std::vector<double>& master,
                                          bool stochastic, uint64_t seed, int64_t first) {
    const int64_t count = std::ssize(master);
    const std::vector<double> zeros(master.size());
    Case c("AdamW");
    const size_t g = c.input("gradient", DType::f32, {count}, zeros);
    const size_t w = c.updated("master", DType::f32, {count}, master, {});
    const size_t m = c.updated("first_moment", DType::f32, {count}, zeros, {});
    const size_t v = c.updated("second_moment", DType::f32, {count}, zeros, {});
    const size_t p = c.output("parameter", DType::bf16, {count}, {});
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        AdamW op{.gradient = t[g],
                 .master = t[w],
                 .first_moment = t[m],
                 .second_moment = t[v],
                 .parameter = t[p]};
        op.stochastic_rounding = stochastic;
        op.seed = seed;
        op.first_element = first;
        op.step = 9;
        runner.run(op);
    };
    return run_case(c, backend)[p];
}

TEST_P(SpecialValues, ParametersAreRoundedToTheBit) {
    std::vector<double> master;
    for (int i = 0; i < 5000; ++i) {
        master.push_back(static_cast<double>(static_cast<float>(std::sin(i) * std::exp2(i % 40))));
    }
    const int64_t first = (int64_t{1} << 33) + 3;  // past 32 bits
    const auto nearest = rounded_parameters(*backend_, master, false, 1, 0);
    EXPECT_EQ(nearest, to_bytes(master, DType::bf16));
    const auto stochastic = rounded_parameters(*backend_, master, true, 42, first);
    for (size_t i = 0; i < master.size(); ++i) {
        const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(master[i])) +
                              rounding_bits(42, first + static_cast<int64_t>(i), 9);
        uint16_t got = 0;
        std::memcpy(&got, &stochastic[2 * i], 2);
        ASSERT_EQ(got, bits >> 16) << "element " << i;
    }
    // The random number is that of the element's place in the whole, wherever a shard begins.
    const std::vector<double> tail(master.begin() + 1001, master.end());
    const auto shard = rounded_parameters(*backend_, tail, true, 42, first + 1001);
    EXPECT_TRUE(std::equal(shard.begin(), shard.end(), stochastic.begin() + 2 * 1001));
}

}  // namespace
}  // namespace lathe::test
