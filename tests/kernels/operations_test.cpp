// Every operation on every backend against the reference, at one and at several threads.
#include <gtest/gtest.h>

#include <ostream>

#include "kernels/reference/reference_backend.h"
#include "tests/kernels/backends.h"
#include "tests/kernels/cases.h"

namespace lathe::test {
namespace {

constexpr uint64_t kSeed = 20240601;

struct Parameter {
    BackendUnderTest backend;
    OperationCases operation;
    DType compute;

    friend std::ostream& operator<<(std::ostream& out, const Parameter& p) {
        return out << p.backend.name << " " << p.operation.operation << " " << name_of(p.compute);
    }
};

std::vector<Parameter> parameters(bool threaded_only) {
    std::vector<Parameter> all;
    for (const BackendUnderTest& backend : backends_under_test()) {
        if (threaded_only && !backend.has_threads) {
            continue;
        }
        for (const OperationCases& operation : operation_cases()) {
            for (const DType compute : {DType::f32, DType::bf16}) {
                all.push_back({backend, operation, compute});
            }
        }
    }
    return all;
}

std::string name_of_parameter(const testing::TestParamInfo<Parameter>& info) {
    return fmt::format("{}_{}_{}", info.param.backend.name, info.param.operation.operation,
                       name_of(info.param.compute));
}

std::string name_of_operation(const testing::TestParamInfo<OperationCases>& info) {
    return info.param.operation;
}

class Operations : public testing::TestWithParam<Parameter> {};
INSTANTIATE_TEST_SUITE_P(Backends, Operations, testing::ValuesIn(parameters(false)),
                         name_of_parameter);

TEST_P(Operations, AgreesWithReference) {
    const auto reference = make_reference_backend();
    const auto backend = GetParam().backend.make(2);
    Random random(kSeed);
    const OperationCases& operation = GetParam().operation;
    for (const auto make : {operation.random, operation.training}) {
        for (const Case& c : make(GetParam().compute, random)) {
            expect_same(c, *backend, c, *reference);
        }
    }
}

class Threads : public Operations {
  protected:
    void expect_same_bits(const Cases& cases, std::initializer_list<int> thread_counts) {
        const auto one = GetParam().backend.make(1);
        std::vector<std::unique_ptr<Backend>> others;
        for (const int num_threads : thread_counts) {
            others.push_back(GetParam().backend.make(num_threads));
        }
        for (const Case& c : cases) {
            SCOPED_TRACE(c.text);
            const auto wanted = run_case(c, *one);
            for (const auto& other : others) {
                EXPECT_TRUE(run_case(c, *other) == wanted)
                    << other->device().num_threads << " threads give other bits than one";
            }
        }
    }
};
INSTANTIATE_TEST_SUITE_P(Backends, Threads, testing::ValuesIn(parameters(true)), name_of_parameter);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Threads);

TEST_P(Threads, BitsDoNotDependOnThemAtTrainingSizes) {
    Random random(kSeed);
    // Twice the last: the same from run to run.
    expect_same_bits(GetParam().operation.training(GetParam().compute, random), {2, 3, 8, 8});
}

TEST_P(Threads, BitsDoNotDependOnThemAtOddSizes) {
    Random random(kSeed);
    expect_same_bits(GetParam().operation.random(GetParam().compute, random), {3});
}

// The reference in f32 against itself in double: shows that the tolerances hold for what is right,
// and that f64 works.
class Reference : public testing::TestWithParam<OperationCases> {};
INSTANTIATE_TEST_SUITE_P(Operations, Reference, testing::ValuesIn(operation_cases()),
                         name_of_operation);

TEST_P(Reference, AgreesWithItselfInDouble) {
    // Accumulate's roundings between the additions are part of its definition, as Cast's are.
    if (GetParam().operation == "Accumulate" || GetParam().operation == "Cast") {
        return;
    }
    const auto reference = make_reference_backend();
    Random random(kSeed);
    for (const Case& c : GetParam().random(DType::f32, random)) {
        expect_same(c, *reference, c.widened(), *reference);
    }
}

}  // namespace
}  // namespace lathe::test
