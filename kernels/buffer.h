// Buffer: the move-only owner of one tensor's memory.
#pragma once

#include <utility>

#include "kernels/tensor.h"

namespace lathe {

/// What an allocation is for; memory is reported by these categories.
enum class MemoryCategory {
    parameters,
    gradients,
    optimizer,
    activations,
    communication,
    workspace,
    offloaded  ///< outside the device's memory (Backend::allocate_offloaded): in no total
};
inline constexpr int kNumMemoryCategories = 7;
std::string_view name_of(MemoryCategory category);

class Backend;

/// Owns the memory behind one Tensor and gives it back to its backend when destroyed
/// (in the compute stream's order: work already issued there may still use it). A Backend must
/// outlive its Buffers.
class Buffer {
  public:
    Buffer() = default;
    Buffer(Backend& backend, Tensor tensor, MemoryCategory category)
        : backend_(&backend), tensor_(tensor), category_(category) {}
    Buffer(Buffer&& other) noexcept { *this = std::move(other); }
    Buffer& operator=(Buffer&& other) noexcept;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { reset(); }

    const Tensor& tensor() const { return tensor_; }
    /// A Buffer stands wherever the Tensor it owns does.
    operator const Tensor&() const { return tensor_; }
    explicit operator bool() const { return static_cast<bool>(tensor_); }
    /// Frees the memory now; the buffer becomes absent.
    void reset() noexcept;

  private:
    Backend* backend_ = nullptr;
    Tensor tensor_;
    MemoryCategory category_ = MemoryCategory::workspace;
};

}  // namespace lathe
