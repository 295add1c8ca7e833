#include "kernels/buffer.h"

#include "kernels/backend.h"

namespace lathe {

std::string_view name_of(MemoryCategory category) {
    switch (category) {
        case MemoryCategory::parameters:
            return "parameters";
        case MemoryCategory::gradients:
            return "gradients";
        case MemoryCategory::optimizer:
            return "optimizer";
        case MemoryCategory::activations:
            return "activations";
        case MemoryCategory::communication:
            return "communication";
        case MemoryCategory::workspace:
            return "workspace";
        case MemoryCategory::offloaded:
            return "offloaded";
    }
    return "?";
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
    if (this != &other) {
        reset();
        backend_ = std::exchange(other.backend_, nullptr);
        tensor_ = std::exchange(other.tensor_, Tensor());
        category_ = other.category_;
    }
    return *this;
}

void Buffer::reset() noexcept {
    if (backend_ != nullptr) {
        backend_->release(tensor_, category_);
        backend_ = nullptr;
    }
    tensor_ = Tensor();
}

}  // namespace lathe
