// Tensor: a non-owning view of contiguous elements, row-major, up to four dimensions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/dtype.h"
#include "kernels/error.h"

namespace lathe {

/// Up to four extents; the last one varies fastest.
class Shape {
  public:
    static constexpr int kMaxRank = 4;

    Shape() = default;
    Shape(std::initializer_list<int64_t> extents) {
        LATHE_CHECK(extents.size() <= kMaxRank, "a shape has at most {} dimensions, not {}",
                    int{kMaxRank}, extents.size());
        for (const int64_t extent : extents) {
            LATHE_CHECK(extent >= 0, "a shape's extent is {}", extent);
            extents_[static_cast<size_t>(rank_++)] = extent;
        }
    }

    int rank() const { return rank_; }
    int64_t operator[](int dimension) const { return extents_[static_cast<size_t>(dimension)]; }
    /// Number of elements; 1 for rank 0.
    int64_t size() const {
        int64_t product = 1;
        for (int i = 0; i < rank_; ++i) {
            product *= (*this)[i];
        }
        return product;
    }
    /// The same but for the first extent, of at least one.
    Shape with_first(int64_t extent) const {
        Shape shape = *this;
        shape.extents_[0] = extent;
        return shape;
    }
    bool operator==(const Shape&) const = default;
    /// "[2, 3]"
    std::string text() const;

  private:
    std::array<int64_t, kMaxRank> extents_{};
    int rank_ = 0;
};

/// A view of device memory: pointer, element type, shape. Copying it copies no element and it owns
/// nothing. A default-constructed Tensor is "absent": operations take absent tensors for what is
/// optional.
class Tensor {
  public:
    Tensor() = default;
    Tensor(void* data, DType dtype, Shape shape)
        : data_(data), shape_(shape), dtype_(dtype), present_(true) {}

    /// Whether this argument is given at all (a given tensor may still have no elements, or a null
    /// address in a dry run).
    explicit operator bool() const { return present_; }
    DType dtype() const { return dtype_; }
    const Shape& shape() const { return shape_; }
    int64_t size() const { return present_ ? shape_.size() : 0; }
    int64_t bytes() const { return size() * size_of(dtype_); }
    /// The last extent (1 for rank 0).
    int64_t columns() const { return shape_.rank() == 0 ? 1 : shape_[shape_.rank() - 1]; }
    /// The product of all extents but the last: operations on rows flatten leading dimensions.
    int64_t rows() const;

    void* data() const { return data_; }
    /// Typed pointer; throws when T is not the element type.
    template <typename T>
    T* as() const {
        LATHE_CHECK(dtype_of<T> == dtype_, "a tensor of {} is read as {}", name_of(dtype_),
                    name_of(dtype_of<T>));
        return static_cast<T*>(data_);
    }

    /// The same elements under another shape of equal size.
    Tensor view(Shape shape) const;
    /// All elements as one row.
    Tensor flat() const { return view({size()}); }
    /// Entries [begin, end) of the first dimension.
    Tensor slice(int64_t begin, int64_t end) const;

  private:
    void* data_ = nullptr;
    Shape shape_;
    DType dtype_ = DType::f32;
    bool present_ = false;
};

}  // namespace lathe
