#include "tests/kernels/operation_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/reference/values.h"

namespace lathe::test {
namespace {

constexpr int64_t kGuardBytes = 256;
/// A huge number in every floating type, and no index: a sum that takes it in is wrong.
constexpr std::byte kGuard{0x7f};
constexpr std::byte kGarbage{0xff};

}  // namespace

GuardedTensor::GuardedTensor(Backend& backend, DType dtype, const Shape& shape, int64_t offset,
                             GuardedEnd end)
    : backend_(&backend), begin_(kGuardBytes + offset * size_of(dtype)) {
    const int64_t bytes = shape.size() * size_of(dtype);
    const int64_t all = begin_ + bytes + (end == GuardedEnd::guard ? kGuardBytes : 0);
    buffer_ = backend.allocate({all / size_of(dtype)}, dtype, MemoryCategory::workspace);
    tensor_ = Tensor(static_cast<std::byte*>(buffer_.tensor().data()) + begin_, dtype, shape);
    set(std::vector<std::byte>(static_cast<size_t>(bytes), kGarbage));
}

void GuardedTensor::set(std::span<const std::byte> bytes) {
    std::vector<std::byte> all(static_cast<size_t>(buffer_.tensor().bytes()), kGuard);
    std::copy(bytes.begin(), bytes.end(), all.begin() + begin_);
    backend_->copy_from_host(buffer_, all.data());
}

std::vector<std::byte> GuardedTensor::read(const std::string& name) const {
    std::vector<std::byte> all(static_cast<size_t>(buffer_.tensor().bytes()));
    backend_->copy_to_host(all.data(), buffer_);
    const auto begin = all.begin() + begin_;
    const auto end = begin + tensor_.bytes();
    const auto is_guard = [](std::byte b) { return b == kGuard; };
    EXPECT_TRUE(std::all_of(all.begin(), begin, is_guard)) << "written before " << name;
    EXPECT_TRUE(std::all_of(end, all.end(), is_guard)) << "written past " << name;
    return {begin, end};
}

size_t Case::input(std::string name, DType dtype, Shape shape, std::vector<double> values) {
    const size_t index = updated(std::move(name), dtype, shape, std::move(values), {});
    arguments[index].is_output = false;
    return index;
}

size_t Case::output(std::string name, DType dtype, Shape shape, Tolerance tolerance) {
    arguments.push_back({std::move(name), dtype, shape, {}, true, tolerance});
    return arguments.size() - 1;
}

size_t Case::updated(std::string name, DType dtype, Shape shape, std::vector<double> values,
                     Tolerance tolerance) {
    LATHE_CHECK(std::ssize(values) == shape.size(), "{}: {} values for {}", name, values.size(),
                shape.text());
    for (double& value : values) {
        value = reference::rounded(value, dtype);
    }
    arguments.push_back({std::move(name), dtype, shape, std::move(values), true, tolerance});
    return arguments.size() - 1;
}

Case Case::widened() const {
    Case wide = *this;
    for (Argument& argument : wide.arguments) {
        argument.dtype = argument.dtype == DType::f32 ? DType::f64 : argument.dtype;
    }
    return wide;
}

std::vector<std::byte> to_bytes(std::span<const double> values, DType dtype) {
    std::vector<std::byte> bytes(values.size() * static_cast<size_t>(size_of(dtype)));
    if (dtype == DType::i32) {
        std::transform(values.begin(), values.end(), reinterpret_cast<int32_t*>(bytes.data()),
                       [](double x) { return static_cast<int32_t>(x); });
    } else {
        reference::store(Tensor(bytes.data(), dtype, {std::ssize(values)}), values);
    }
    return bytes;
}

std::vector<double> to_doubles(std::span<const std::byte> bytes, DType dtype) {
    std::vector<std::byte> copy(bytes.begin(), bytes.end());
    return reference::load(Tensor(copy.data(), dtype, {std::ssize(bytes) / size_of(dtype)}));
}

std::vector<std::vector<std::byte>> run_case(const Case& c, Backend& backend) {
    std::vector<GuardedTensor> memory;
    std::vector<Tensor> tensors;
    // Parameters start anywhere in their flat unit, so arguments need not be aligned to more than
    // one element: about half of the cases are not.
    const int64_t misalignment = c.misaligned.value_or(c.text.size() % 2 == 1) ? 1 : 0;
    for (const Case::Argument& argument : c.arguments) {
        const int64_t offset = misalignment * static_cast<int64_t>(memory.size() % 3 + 1);
        memory.emplace_back(backend, argument.dtype, argument.shape, offset,
                            argument.is_output ? GuardedEnd::guard : GuardedEnd::end_of_memory);
        if (!argument.values.empty()) {
            memory.back().set(to_bytes(argument.values, argument.dtype));
        }
        tensors.push_back(memory.back().tensor());
    }
    GuardedRunner runner(backend,
                         misalignment == 0 ? GuardedEnd::end_of_memory : GuardedEnd::guard);
    c.issue(runner, tensors);
    std::vector<std::vector<std::byte>> results;
    for (size_t i = 0; i < memory.size(); ++i) {
        const Case::Argument& argument = c.arguments[i];
        results.push_back(memory[i].read(argument.name));
        if (!argument.is_output) {
            EXPECT_EQ(results.back(), to_bytes(argument.values, argument.dtype))
                << "input " << argument.name << " was changed";
        }
    }
    return results;
}

namespace {

using Results = std::vector<std::vector<std::byte>>;

void expect_close(const Case& c, const Results& results, const Case& wanted,
                  const Results& wanted_results) {
    for (size_t i = 0; i < c.arguments.size(); ++i) {
        const Case::Argument& argument = c.arguments[i];
        if (!argument.is_output) {
            continue;
        }
        const std::vector<double> got = to_doubles(results[i], argument.dtype);
        const std::vector<double> want = to_doubles(wanted_results[i], wanted.arguments[i].dtype);
        size_t num_bad = 0;
        size_t worst = 0;
        double worst_ratio = -1;
        for (size_t j = 0; j < got.size(); ++j) {
            const double allowed =
                argument.tolerance.absolute + argument.tolerance.relative * std::fabs(want[j]);
            const double error = std::fabs(got[j] - want[j]);
            // Infinities and NaN agree with their like alone.
            const bool alike = got[j] == want[j] || (std::isnan(got[j]) && std::isnan(want[j]));
            if (!(error <= allowed) && !alike) {
                ++num_bad;
                const double ratio = std::isnan(error) ? INFINITY : error / allowed;
                if (ratio > worst_ratio) {
                    worst_ratio = ratio;
                    worst = j;
                }
            }
        }
        if (num_bad > 0) {
            ADD_FAILURE() << argument.name << " " << argument.shape.text() << ": " << num_bad
                          << " of " << got.size() << " elements differ, worst at " << worst
                          << ": got " << got[worst] << ", want " << want[worst] << " ("
                          << worst_ratio << " times the tolerance)";
        }
    }
}

}  // namespace

void expect_same(const Case& c, Backend& backend, const Case& wanted, Backend& reference) {
    SCOPED_TRACE(c.text);
    const Results wanted_results = run_case(wanted, reference);
    expect_close(c, run_case(c, backend), wanted, wanted_results);
}

double max_abs(std::span<const double> values) {
    double maximum = 0;
    for (const double value : values) {
        maximum = std::max(maximum, std::fabs(value));
    }
    return maximum;
}

double max_row_norm(std::span<const double> values, int64_t columns) {
    double maximum = 0;
    for (size_t begin = 0; begin < values.size(); begin += static_cast<size_t>(columns)) {
        double squares = 0;
        for (const double value : values.subspan(begin, static_cast<size_t>(columns))) {
            squares += value * value;
        }
        maximum = std::max(maximum, std::sqrt(squares));
    }
    return maximum;
}

double max_column_norm(std::span<const double> values, int64_t columns) {
    std::vector<double> squares(values.begin(), values.end());
    for (double& value : squares) {
        value *= value;
    }
    return std::sqrt(max_column_sum(squares, columns));
}

double max_column_sum(std::span<const double> values, int64_t columns) {
    std::vector<double> sums(static_cast<size_t>(columns));
    for (size_t i = 0; i < values.size(); ++i) {
        sums[i % sums.size()] += std::fabs(values[i]);
    }
    return max_abs(sums);
}

}  // namespace lathe::test
