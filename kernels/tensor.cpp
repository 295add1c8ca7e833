#include "kernels/tensor.h"

namespace lathe {

std::string Shape::text() const {
    std::string text = "[";
    for (int i = 0; i < rank_; ++i) {
        text += fmt::format("{}{}", i == 0 ? "" : ", ", (*this)[i]);
    }
    return text + "]";
}

int64_t Tensor::rows() const {
    int64_t product = present_ ? 1 : 0;
    for (int i = 0; i + 1 < shape_.rank(); ++i) {
        product *= shape_[i];
    }
    return product;
}

Tensor Tensor::view(Shape shape) const {
    LATHE_CHECK(shape.size() == size(), "a tensor of shape {} cannot be seen as {}", shape_.text(),
                shape.text());
    return Tensor(data_, dtype_, shape);
}

Tensor Tensor::slice(int64_t begin, int64_t end) const {
    LATHE_CHECK(shape_.rank() >= 1 && 0 <= begin && begin <= end && end <= shape_[0],
                "slice [{}, {}) of a tensor of shape {}", begin, end, shape_.text());
    int64_t stride = size_of(dtype_);
    for (int i = 1; i < shape_.rank(); ++i) {
        stride *= shape_[i];
    }
    void* data = data_ == nullptr ? nullptr : static_cast<std::byte*>(data_) + begin * stride;
    return Tensor(data, dtype_, shape_.with_first(end - begin));
}

}  // namespace lathe
