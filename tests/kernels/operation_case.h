// One operation with its arguments, as data: runs on any backend, in guarded memory, and is
// compared with the reference.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/support/tolerance.h"

namespace lathe::test {

/// What follows a tensor: guard bytes, which show writing, or nothing that may be touched, so that
/// where accesses are checked (on the emulated GPU, by ASan) reading shows.
enum class GuardedEnd { guard, end_of_memory };

/// Memory with guard bytes on both sides, as bytes of 0xff (NaN in every type) until set.
class GuardedTensor {
  public:
    /// `offset` elements past a 256-byte boundary.
    GuardedTensor(Backend& backend, DType dtype, const Shape& shape, int64_t offset,
                  GuardedEnd end = GuardedEnd::guard);

    const Tensor& tensor() const { return tensor_; }
    void set(std::span<const std::byte> bytes);
    /// The content; a test failure naming `name` when the guards have changed.
    std::vector<std::byte> read(const std::string& name) const;

  private:
    Backend* backend_;
    Buffer buffer_;
    Tensor tensor_;
    int64_t begin_ = 0;
};

/// Runs operations with a workspace that is exactly as large as asked for, guarded, and full of
/// NaN.
class GuardedRunner {
  public:
    GuardedRunner(Backend& backend, GuardedEnd end) : backend_(backend), end_(end) {}

    template <typename Operation>
    void run(Operation op) {
        const int64_t bytes = backend_.workspace_bytes(op);
        GuardedTensor workspace(backend_, DType::bf16, {(bytes + 1) / 2}, 0, end_);
        op.workspace = workspace.tensor();
        backend_.run(op);
        workspace.read("workspace");
    }

  private:
    Backend& backend_;
    GuardedEnd end_;
};

using Tensors = std::span<const Tensor>;

/// The arguments of an operation and how to issue it. Arguments are known by the index that adding
/// them returned.
struct Case {
    struct Argument {
        std::string name;
        DType dtype;
        Shape shape;
        std::vector<double> values;  ///< what it holds before; empty: undefined
        bool is_output;
        Tolerance tolerance;
    };

    explicit Case(std::string case_text) : text(std::move(case_text)) {}

    /// Values are rounded to the type.
    size_t input(std::string name, DType dtype, Shape shape, std::vector<double> values);
    size_t output(std::string name, DType dtype, Shape shape, Tolerance tolerance);
    /// Read and written.
    size_t updated(std::string name, DType dtype, Shape shape, std::vector<double> values,
                   Tolerance tolerance);
    const std::vector<double>& values(size_t argument) const { return arguments[argument].values; }
    /// The same case with every f32 argument in f64.
    Case widened() const;

    std::string text;
    /// Whether arguments begin off a 16-byte boundary; left open, about half of the cases' do.
    std::optional<bool> misaligned;
    std::vector<Argument> arguments;
    std::function<void(GuardedRunner&, Tensors)> issue;
};

/// Content of every argument after the case has run, by index. Fails the test if guards or inputs
/// changed.
std::vector<std::vector<std::byte>> run_case(const Case& c, Backend& backend);

std::vector<double> to_doubles(std::span<const std::byte> bytes, DType dtype);
std::vector<std::byte> to_bytes(std::span<const double> values, DType dtype);

/// Runs both and expects the outputs of `backend` to be within each argument's tolerance.
void expect_same(const Case& c, Backend& backend, const Case& wanted, Backend& reference);

/// Largest absolute value; of rows and columns of a matrix: largest Euclidean norm, largest sum of
/// absolute values.
double max_abs(std::span<const double> values);
double max_row_norm(std::span<const double> values, int64_t columns);
double max_column_norm(std::span<const double> values, int64_t columns);
double max_column_sum(std::span<const double> values, int64_t columns);

}  // namespace lathe::test
