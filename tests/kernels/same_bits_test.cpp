// The same bits as itself always: every operation twice in one process, and in another process in
// which the emulated GPU runs warps in another order and streams as late as they may. (To a real
// GPU these settings mean nothing; there it is another run.)
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <sstream>

#include "tests/kernels/backends.h"
#include "tests/kernels/cases.h"
#include "tests/support/process.h"

namespace lathe::test {
namespace {

constexpr uint64_t kSeed = 20240601;
/// Set in the child: print the hashes and end.
constexpr const char* kPrintOnly = "LATHE_TEST_PRINT_HASHES";
constexpr const char* kLinePrefix = "outputs of case ";

struct Parameter {
    OperationCases operation;
    DType compute;

    friend std::ostream& operator<<(std::ostream& out, const Parameter& p) {
        return out << p.operation.operation << " " << name_of(p.compute);
    }
};

std::vector<Parameter> parameters() {
    std::vector<Parameter> all;
    for (const OperationCases& operation : operation_cases()) {
        for (const DType compute : {DType::f32, DType::bf16}) {
            all.push_back({operation, compute});
        }
    }
    return all;
}

/// FNV-1a of every output.
uint64_t hash_of_outputs(const Case& c, Backend& backend) {
    const auto results = run_case(c, backend);
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < results.size(); ++i) {
        for (const std::byte byte : results[i]) {
            hash = c.arguments[i].is_output ? (hash ^ static_cast<uint64_t>(byte)) * 0x100000001b3
                                            : hash;
        }
    }
    return hash;
}

/// One line a case.
std::vector<std::string> hashes(const Cases& cases, Backend& backend) {
    std::vector<std::string> lines;
    for (const Case& c : cases) {
        lines.push_back(
            fmt::format("{}{}: {:016x}", kLinePrefix, c.text, hash_of_outputs(c, backend)));
    }
    return lines;
}

std::vector<std::string> hashes_in_another_process(const std::string& test) {
    testing::ProcessOptions options;
    options.program = std::filesystem::canonical("/proc/self/exe");
    options.environment = {fmt::format("{}=1", kPrintOnly), "PTXEMU_SCHED=7", "PTXEMU_ASYNC=1"};
    const auto result = testing::Process({"--gtest_filter=" + test}, options).wait();
    EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
    std::vector<std::string> lines;
    std::istringstream out(result.out);
    for (std::string line; std::getline(out, line);) {
        if (line.starts_with(kLinePrefix)) {
            lines.push_back(line);
        }
    }
    return lines;
}

std::string name_of_parameter(const ::testing::TestParamInfo<Parameter>& info) {
    return fmt::format("{}_{}", info.param.operation.operation, name_of(info.param.compute));
}

class SameBits : public ::testing::TestWithParam<Parameter> {};
INSTANTIATE_TEST_SUITE_P(Operations, SameBits, ::testing::ValuesIn(parameters()),
                         name_of_parameter);

TEST_P(SameBits, OnEveryRunAndInEveryOrder) {
    const auto backend = backends_under_test().front().make(1);
    Random random(kSeed);
    const Cases cases = GetParam().operation.random(GetParam().compute, random);
    const std::vector<std::string> first = hashes(cases, *backend);
    if (std::getenv(kPrintOnly) != nullptr) {
        for (const std::string& line : first) {
            std::cout << line << "\n";
        }
        return;
    }
    EXPECT_EQ(hashes(cases, *backend), first);
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    EXPECT_EQ(
        hashes_in_another_process(fmt::format("{}.{}", info->test_suite_name(), info->name())),
        first);
}

}  // namespace
}  // namespace lathe::test
