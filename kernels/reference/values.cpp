#include "kernels/reference/values.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace lathe::reference {
namespace {

/// Rounding double -> f32 -> bf16 to nearest twice can go wrong at a tie. So the first step rounds
/// to odd (cut off, then set the last bit if anything was lost), which makes the pair exact.
bf16 to_bf16(double value) {
    auto narrow = static_cast<float>(value);
    if (std::isfinite(narrow) && static_cast<double>(narrow) != value) {
        if (std::fabs(static_cast<double>(narrow)) > std::fabs(value)) {
            narrow = std::nextafter(narrow, 0.0F);
        }
        narrow = std::bit_cast<float>(std::bit_cast<uint32_t>(narrow) | 1U);
    }
    return bf16(narrow);
}

}  // namespace

std::vector<double> load(const Tensor& tensor) {
    std::vector<double> values(static_cast<size_t>(tensor.size()));
    const auto n = static_cast<int64_t>(values.size());
    switch (tensor.dtype()) {
        case DType::f32:
            std::copy_n(tensor.as<float>(), n, values.begin());
            break;
        case DType::f64:
            std::copy_n(tensor.as<double>(), n, values.begin());
            break;
        case DType::bf16:
            std::transform(tensor.as<bf16>(), tensor.as<bf16>() + n, values.begin(),
                           [](bf16 x) { return static_cast<double>(static_cast<float>(x)); });
            break;
        case DType::i32:
            fail("a tensor of i32 is read as real numbers");
    }
    return values;
}

std::vector<int32_t> load_integers(const Tensor& tensor) {
    const auto* data = tensor.as<int32_t>();
    return {data, data + tensor.size()};
}

void store(const Tensor& tensor, std::span<const double> values) {
    LATHE_CHECK(std::ssize(values) == tensor.size(), "{} values for a tensor of {}", values.size(),
                tensor.size());
    switch (tensor.dtype()) {
        case DType::f32:
            std::transform(values.begin(), values.end(), tensor.as<float>(),
                           [](double x) { return static_cast<float>(x); });
            break;
        case DType::f64:
            std::copy(values.begin(), values.end(), tensor.as<double>());
            break;
        case DType::bf16:
            std::transform(values.begin(), values.end(), tensor.as<bf16>(), to_bf16);
            break;
        case DType::i32:
            fail("a tensor of i32 is assigned real numbers");
    }
}

double rounded(double value, DType dtype) {
    switch (dtype) {
        case DType::f32:
            return static_cast<double>(static_cast<float>(value));
        case DType::bf16:
            return static_cast<double>(static_cast<float>(to_bf16(value)));
        case DType::f64:
        case DType::i32:
            break;
    }
    return value;
}

}  // namespace lathe::reference
