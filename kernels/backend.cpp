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
        "recomputation, {}or a smaller model",
        device().kind, bytes, name_of(category), usage_.total_bytes,
        device().offload != OffloadMemory::none ? "--offload optimizer, " : "");
    count_allocated(bytes, category);
    return Buffer(*this, Tensor(data, dtype, shape), category);
}

Buffer Backend::allocate_offloaded(Shape shape, DType dtype, const std::filesystem::path& folder) {
    LATHE_CHECK(device().offload != OffloadMemory::none, "the device {} offloads nothing",
                device().kind);
    const int64_t bytes = shape.size() * size_of(dtype);
    void* data = bytes == 0 ? nullptr : allocate_offloaded_bytes(bytes, folder);
    count_allocated(bytes, MemoryCategory::offloaded);
    return Buffer(*this, Tensor(data, dtype, shape), MemoryCategory::offloaded);
}

OffloadWindow Backend::open_offloaded(const Tensor& part, OffloadUse use) {
    return {.part = part, .use = use, .tensor = part, .staging = {}};
}

void Backend::close_offloaded(OffloadWindow) {}

void* Backend::allocate_offloaded_bytes(int64_t, const std::filesystem::path&) { return nullptr; }
void Backend::free_offloaded_bytes(void*, int64_t) noexcept {}

void Backend::label(const char*, std::string_view) {}
void Backend::memory_changed(MemoryCategory, int64_t) noexcept {}

void Backend::count_allocated(int64_t bytes, MemoryCategory category) {
    const auto index = static_cast<size_t>(category);
    usage_.current_bytes[index] += bytes;
    usage_.peak_bytes[index] = std::max(usage_.peak_bytes[index], usage_.current_bytes[index]);
    if (category != MemoryCategory::offloaded) {
        usage_.total_bytes += bytes;
        usage_.total_peak_bytes = std::max(usage_.total_peak_bytes, usage_.total_bytes);
    }
    memory_changed(category, bytes);
}

void Backend::release(const Tensor& tensor, MemoryCategory category) noexcept {
    const int64_t bytes = tensor.bytes();
    const bool offloaded = category == MemoryCategory::offloaded;
    usage_.current_bytes[static_cast<size_t>(category)] -= bytes;
    usage_.total_bytes -= offloaded ? 0 : bytes;
    memory_changed(category, -bytes);
    if (bytes > 0 && offloaded) {
        free_offloaded_bytes(tensor.data(), bytes);
    } else if (bytes > 0) {
        free_bytes(tensor.data(), bytes);
    }
}

void Backend::reset_peaks() {
    usage_.peak_bytes = usage_.current_bytes;
    usage_.total_peak_bytes = usage_.total_bytes;
}

double Backend::seconds_of(const std::function<void()>& issue) {
    synchronize(Stream::compute);
    const auto begin = std::chrono::steady_clock::now();
    issue();
    synchronize(Stream::compute);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
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

Tensor Workspace::reserve(int64_t bytes, Stream stream) {
    if (bytes > buffer_.tensor().bytes()) {
        // Memory is the compute stream's.
        if (stream != Stream::compute && buffer_) {
            backend_.wait(Stream::compute, backend_.record(stream));
        }
        buffer_.reset();
        buffer_ = backend_.allocate({(bytes + 3) / 4}, DType::f32, MemoryCategory::workspace);
        if (stream != Stream::compute) {
            backend_.wait(stream, backend_.record(Stream::compute));
        }
    }
    return buffer_;
}

}  // namespace lathe
