// The arguments of one operation, as check(op) demands them.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>

#include "kernels/error.h"
#include "kernels/tensor.h"

namespace lathe {

inline std::string describe(const Tensor& tensor) {
    return fmt::format("{} {}", name_of(tensor.dtype()), tensor.shape().text());
}

inline bool is_compute(DType dtype) { return dtype != DType::i32; }

/// Each argument is checked as it is named; `done` then checks that no output overlaps anything
/// else. Allocates nothing unless a check fails.
class Arguments {
  public:
    /// Inputs in whose place an output may be written.
    using MayBe = std::array<const Tensor*, 2>;

    explicit Arguments(const char* operation) : operation_(operation) {}

    /// Throws "Operation: text" unless the condition holds.
    template <typename... Args>
    void require(bool condition, fmt::format_string<Args...> text, Args&&... args) const {
        if (!condition) [[unlikely]] {
            fail("{}: {}", operation_, fmt::format(text, std::forward<Args>(args)...));
        }
    }

    /// The operation's compute type is that of this argument.
    DType compute(const char* name, const Tensor& tensor) const {
        require(static_cast<bool>(tensor), "{} is missing", name);
        if (!is_compute(tensor.dtype())) [[unlikely]] {
            require(false, "{} is {}, should be of f32, bf16 or f64", name, describe(tensor));
        }
        return tensor.dtype();
    }

    /// The argument's dimensions are read, so they must be exactly this many.
    void rank(const char* name, const Tensor& tensor, int rank, const char* shape) const {
        require(static_cast<bool>(tensor), "{} is missing", name);
        if (tensor.shape().rank() != rank) [[unlikely]] {
            require(false, "{} is {}, should have the {} dimensions {}", name, describe(tensor),
                    rank, shape);
        }
    }

    /// Leading dimensions may be flattened or not; of a vector only the size matters.
    void expect(const char* name, const Tensor& tensor, DType dtype, const Shape& shape) const {
        const bool same_columns = shape.rank() == 1 || tensor.columns() == shape[shape.rank() - 1];
        if (tensor && tensor.dtype() == dtype && tensor.size() == shape.size() && same_columns)
            [[likely]] {
            return;
        }
        require(static_cast<bool>(tensor), "{} is missing, should be {} {}", name, name_of(dtype),
                shape.text());
        fail("{}: {} is {}, should be {} {}", operation_, name, describe(tensor), name_of(dtype),
             shape.text());
    }

    void input(const char* name, const Tensor& tensor, DType dtype, const Shape& shape) {
        expect(name, tensor, dtype, shape);
        inputs_.add({name, std::span(&tensor, 1), {}});
    }
    /// Several, each expected already.
    void inputs(const char* name, std::span<const Tensor> tensors) {
        inputs_.add({name, tensors, {}});
    }
    void optional_input(const char* name, const Tensor& tensor, DType dtype, const Shape& shape) {
        if (tensor) {
            input(name, tensor, dtype, shape);
        }
    }
    /// `may_be` are the inputs in whose place the output may be written.
    void output(const char* name, const Tensor& tensor, DType dtype, const Shape& shape,
                MayBe may_be = {}) {
        expect(name, tensor, dtype, shape);
        outputs_.add({name, std::span(&tensor, 1), may_be});
    }
    void optional_output(const char* name, const Tensor& tensor, DType dtype, const Shape& shape,
                         MayBe may_be = {}) {
        if (tensor) {
            output(name, tensor, dtype, shape, may_be);
        }
    }
    /// An argument that goes with a setting: present with it, absent without.
    void present(const char* name, const Tensor& tensor, bool needed, const char* reason) const {
        require(static_cast<bool>(tensor) == needed, "{} is {}, should be {} {}", name,
                tensor ? "given" : "missing", needed ? "given" : "absent", reason);
    }

    void done(const Tensor& workspace) {
        outputs_.add({"workspace", std::span(&workspace, 1), {}});
        for (size_t i = 0; i < outputs_.count; ++i) {
            for (size_t j = 0; j < inputs_.count; ++j) {
                apart(outputs_.items[i], inputs_.items[j]);
            }
            for (size_t j = 0; j < i; ++j) {
                apart(outputs_.items[i], outputs_.items[j]);
            }
        }
    }

  private:
    struct Named {
        const char* name = nullptr;
        std::span<const Tensor> tensors;
        MayBe may_be = {};
    };
    struct List {
        static constexpr size_t kCapacity = 12;

        void add(const Named& named) {
            LATHE_CHECK(count < kCapacity, "more than {} arguments", kCapacity);
            items[count++] = named;
        }
        std::array<Named, kCapacity> items;
        size_t count = 0;
    };

    void apart(const Named& output, const Named& others) const {
        const Tensor& tensor = output.tensors.front();
        if (tensor.data() == nullptr || tensor.bytes() == 0) {
            return;
        }
        const auto* begin = static_cast<const std::byte*>(tensor.data());
        const auto* end = begin + tensor.bytes();
        const std::less<> before;
        for (const Tensor& other : others.tensors) {
            const auto* other_begin = static_cast<const std::byte*>(other.data());
            if (other_begin != nullptr && before(other_begin, end) &&
                before(begin, other_begin + other.bytes())) {
                check_in_place(output, others.name, other);
            }
        }
    }
    void check_in_place(const Named& output, const char* other_name, const Tensor& other) const {
        const Tensor& tensor = output.tensors.front();
        if (other.bytes() == 0) {
            return;
        }
        bool in_place = false;
        for (const Tensor* allowed : output.may_be) {
            in_place |= allowed != nullptr && allowed->data() == other.data();
        }
        require(in_place && tensor.data() == other.data() && tensor.dtype() == other.dtype() &&
                    tensor.size() == other.size(),
                "{} overlaps {}", output.name, other_name);
    }

    const char* operation_;
    List inputs_;
    List outputs_;
};

}  // namespace lathe
