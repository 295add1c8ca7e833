#include "kernels/bench/case_tensors.h"

#include <algorithm>
#include <cmath>

namespace lathe::bench {

namespace {
/// Repeated, so that filling takes no time; prime, so that rows of a matrix differ.
constexpr int64_t kPeriod = 4099;
}  // namespace

Tensor AllocatedTensors::make(Shape shape, DType dtype) {
    const Tensor tensor = allocate(shape, dtype);
    fill_with_numbers(tensor, 0.0F);
    return tensor;
}

Tensor AllocatedTensors::make_positive(Shape shape, DType dtype) {
    const Tensor tensor = allocate(shape, dtype);
    fill_with_numbers(tensor, 0.2F);
    return tensor;
}

Tensor AllocatedTensors::make_tokens(Shape shape, int64_t vocabulary) {
    const Tensor tensor = allocate(shape, DType::i32);
    std::vector<int32_t> tokens(static_cast<size_t>(kPeriod));
    for (size_t i = 0; i < tokens.size(); ++i) {
        // Spread over the vocabulary: multiples of a large prime.
        tokens[i] = static_cast<int32_t>(static_cast<int64_t>(i) * 2654435761 % vocabulary);
    }
    fill(tensor, tokens.data(), kPeriod);
    return tensor;
}

Tensor AllocatedTensors::allocate(Shape shape, DType dtype) {
    buffers_.push_back(backend_.allocate(shape, dtype, MemoryCategory::activations));
    return buffers_.back();
}

void AllocatedTensors::fill(const Tensor& tensor, const void* period, int64_t elements) {
    const Tensor flat = tensor.flat();
    int64_t done = std::min(elements, flat.size());
    if (done == 0) {
        return;
    }
    backend_.copy_from_host(flat.slice(0, done), period);
    for (int64_t count = 0; done < flat.size(); done += count) {
        count = std::min(done, flat.size() - done);
        backend_.copy(flat.slice(done, done + count), flat.slice(0, count), Stream::compute);
    }
}

void AllocatedTensors::fill_with_numbers(const Tensor& tensor, float offset) {
    if (tensor.dtype() != DType::f32 && tensor.dtype() != DType::bf16) {
        backend_.fill_zero(tensor, Stream::compute);
        return;
    }
    std::vector<float> exact(static_cast<size_t>(kPeriod));
    for (size_t i = 0; i < exact.size(); ++i) {
        exact[i] = offset + 0.1F * std::sin(static_cast<float>(i));
    }
    if (tensor.dtype() == DType::f32) {
        fill(tensor, exact.data(), kPeriod);
    } else {
        const std::vector<bf16> rounded(exact.begin(), exact.end());
        fill(tensor, rounded.data(), kPeriod);
    }
}

}  // namespace lathe::bench
