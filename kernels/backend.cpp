#include "kernels/backend.h"

#include <algorithm>
#include <chrono>

namespace lathe {

Buffer Backend::allocate(Shape shape, DType dtype, MemoryCategory category) {
    const int64_t bytes = shape.size() * size_of(dtype);
    void* data = bytes == 0 ? nullptr : allocate_bytes(bytes);
    LATHE_CHECK(
        bytes == 0 || data != nullptr,
        "out of memory on {}: {} bytes for {} (in use: {} bytes); use a smaller micro-batch, "
        "recomputation, or a smaller model",
        device().kind, bytes, name_of(category), usage_.total_bytes);
    const auto index = static_cast<size_t>(category);
    usage_.current_bytes[index] += bytes;
    usage_.total_bytes += bytes;
    usage_.peak_bytes[index] = std::max(usage_.peak_bytes[index], usage_.current_bytes[index]);
    usage_.total_peak_bytes = std::max(usage_.total_peak_bytes, usage_.total_bytes);
    return Buffer(*this, Tensor(data, dtype, shape), category);
}

void Backend::release(const Tensor& tensor, MemoryCategory category) noexcept {
    const int64_t bytes = tensor.bytes();
    usage_.current_bytes[static_cast<size_t>(category)] -= bytes;
    usage_.total_bytes -= bytes;
    if (bytes > 0) {
        free_bytes(tensor.data(), bytes);
    }
}

void Backend::reset_peaks() {
    usage_.peak_bytes = usage_.current_bytes;
    usage_.total_peak_bytes = usage_.total_bytes;
}

void Backend::run_on_host(Stream stream, std::function<void()> function) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    function();
    if (stream == Stream::communication) {
        exposed_communication_s_ += std::chrono::duration<double>(Clock::now() - start).count();
    }
}

void Backend::check_workspace(int64_t needed_bytes, const Tensor& workspace,
                              const char* operation) {
    LATHE_CHECK(workspace.bytes() >= needed_bytes, "{}: workspace of {} bytes, {} needed",
                operation, workspace.bytes(), needed_bytes);
}

Tensor Workspace::reserve(int64_t bytes) {
    if (bytes > buffer_.tensor().bytes()) {
        buffer_.reset();
        buffer_ = backend_.allocate({(bytes + 3) / 4}, DType::f32, MemoryCategory::workspace);
    }
    return buffer_;
}

}  // namespace lathe
