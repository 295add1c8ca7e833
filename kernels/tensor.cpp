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
    const int64_t stride = shape_[0] == 0 ? 0 : size() / shape_[0];
    void* data = data_ == nullptr
                     ? nullptr
                     : static_cast<std::byte*>(data_) + begin * stride * size_of(dtype_);
    switch (shape_.rank()) {
        case 1:
            return Tensor(data, dtype_, {end - begin});
        case 2:
            return Tensor(data, dtype_, {end - begin, shape_[1]});
        case 3:
            return Tensor(data, dtype_, {end - begin, shape_[1], shape_[2]});
        default:
            return Tensor(data, dtype_, {end - begin, shape_[1], shape_[2], shape_[3]});
    }
}

}  // namespace lathe
