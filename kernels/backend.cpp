#include "kernels/backend.h"

#include <algorithm>
#include <chrono>

#include "kernels/operation_cost.h"
#include "kernels/operation_text.h"

namespace lathe {
namespace {

/// Moves each byte of a tensor: reads and writes it.
Work moving(const char* name, const Tensor& tensor) {
    return {.name = name,
            .detail = shape_text(tensor),
            .bytes = 2.0 * static_cast<double>(tensor.bytes())};
}

Work waiting_for(bool compute) {
    return {.name = compute ? "wait for compute" : "wait for communication"};
}

}  // namespace

Buffer Backend::allocate(Shape shape, DType dtype, MemoryCategory category) {
    const int64_t bytes = shape.size() * size_of(dtype);
    void* data = nullptr;
    if (bytes > 0) {
        recorded_on_host(
            [&] {
                return Work{.name = "allocate",
                            .detail = std::string(name_of(category)),
                            .bytes = static_cast<double>(bytes)};
            },
            [&] { data = allocate_bytes(bytes); });
    }
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

OffloadWindow Backend::execute_open_offloaded(const Tensor& part, OffloadUse use) {
    return {.part = part, .use = use, .tensor = part, .staging = {}};
}

void Backend::execute_close_offloaded(OffloadWindow) {}
bool Backend::prefetch_offloaded(const Tensor&) { return false; }

void* Backend::allocate_offloaded_bytes(int64_t, const std::filesystem::path&) { return nullptr; }
void Backend::free_offloaded_bytes(void*, int64_t) noexcept {}

void Backend::label(const char* phase, std::string_view unit) {
    if (recorder_ != nullptr) {
        stamp(Stream::compute, {recorder_, &recorder_->add_label(phase, unit).begin_s});
    }
}

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
    if (recorder_ != nullptr) {
        recorder_->sample_memory(usage_.current_bytes);
    }
}

void Backend::release(const Tensor& tensor, MemoryCategory category) noexcept {
    const int64_t bytes = tensor.bytes();
    const bool offloaded = category == MemoryCategory::offloaded;
    usage_.current_bytes[static_cast<size_t>(category)] -= bytes;
    usage_.total_bytes -= offloaded ? 0 : bytes;
    memory_changed(category, -bytes);
    if (recorder_ != nullptr) {
        recorder_->sample_memory(usage_.current_bytes);
    }
    if (bytes > 0 && offloaded) {
        free_offloaded_bytes(tensor.data(), bytes);
    } else if (bytes > 0) {
        free_bytes(tensor.data(), bytes);
    }
}

void Backend::copy(const Tensor& destination, const Tensor& source, Stream stream) {
    recorded(
        stream, [&] { return moving("copy", source); },
        [&] { execute_copy(destination, source, stream); });
}

void Backend::copy_from_host(const Tensor& destination, const void* source) {
    recorded(
        Stream::compute, [&] { return moving("copy_from_host", destination); },
        [&] { execute_copy_from_host(destination, source); });
}

void Backend::copy_to_host(void* destination, const Tensor& source) {
    recorded(
        Stream::compute, [&] { return moving("copy_to_host", source); },
        [&] { execute_copy_to_host(destination, source); });
}

void Backend::fill_zero(const Tensor& tensor, Stream stream) {
    recorded(
        stream,
        [&] {
            return Work{.name = "fill_zero",
                        .detail = shape_text(tensor),
                        .bytes = static_cast<double>(tensor.bytes())};
        },
        [&] { execute_fill_zero(tensor, stream); });
}

OffloadWindow Backend::open_offloaded(const Tensor& part, OffloadUse use) {
    OffloadWindow window;
    recorded(
        Stream::compute, [&] { return moving("open_offloaded", part); },
        [&] { window = execute_open_offloaded(part, use); });
    return window;
}

void Backend::close_offloaded(OffloadWindow window) {
    recorded(
        Stream::compute, [&] { return moving("close_offloaded", window.part); },
        [&] { execute_close_offloaded(std::move(window)); });
}

void Backend::wait(Stream stream, Event event) {
    const bool other_is_compute = stream == Stream::communication;
    if (!runs_beside(other_is_compute ? Stream::compute : Stream::communication)) {
        execute_wait(stream, event);  // there is nothing to wait for
        return;
    }
    recorded(
        stream, [&] { return waiting_for(other_is_compute); },
        [&] { execute_wait(stream, event); });
}

void Backend::synchronize(Stream stream) {
    if (!runs_beside(stream)) {
        execute_synchronize(stream);
        return;
    }
    recorded_on_host([&] { return waiting_for(stream == Stream::compute); },
                     [&] { execute_synchronize(stream); });
}

bool Backend::runs_beside(Stream stream) const {
    return stream == Stream::compute ? device().compute_runs_beside
                                     : device().communication_runs_beside;
}

void Backend::set_recorder(std::shared_ptr<WorkRecorder> recorder) {
    recorder_ = std::move(recorder);
    if (recorder_ != nullptr) {
        recorder_->threads().make_room(device().num_threads);
    }
}

void Backend::stamp(Stream, std::shared_ptr<double> seconds) { *seconds = WorkRecorder::now_s(); }

void Backend::read_stamps() {
    execute_synchronize(Stream::compute);
    execute_synchronize(Stream::communication);
}

void Backend::record_work(Stream stream, Work work, const std::function<void()>& issue) {
    const Lane lane = !runs_beside(stream)        ? Lane::host
                      : stream == Stream::compute ? Lane::compute
                                                  : Lane::communication;
    WorkRecord& record = recorder_->add(std::move(work), lane);
    record.issue_begin_s = WorkRecorder::now_s();
    stamp(stream, {recorder_, &record.begin_s});
    issue();
    stamp(stream, {recorder_, &record.end_s});
    recorder_->threads().belong_to(static_cast<int64_t>(recorder_->records().size()) - 1);
    record.issue_end_s = WorkRecorder::now_s();
}

void Backend::record_host_work(Work work, const std::function<void()>& issue) {
    WorkRecord& record = recorder_->add(std::move(work), Lane::host);
    record.issue_begin_s = record.begin_s = WorkRecorder::now_s();
    issue();
    record.issue_end_s = record.end_s = WorkRecorder::now_s();
}

#define LATHE_RUN_RECORDED(Operation)                                \
    void Backend::run_recorded(const Operation& op, Stream stream) { \
        const OperationCost cost = cost_of(op);                      \
        record_work(stream,                                          \
                    {.name = #Operation,                             \
                     .detail = shape_text(op),                       \
                     .flops = cost.flops,                            \
                     .bytes = cost.bytes()},                         \
                    [&] { execute(op, stream); });                   \
    }
LATHE_OPERATIONS(LATHE_RUN_RECORDED)
#undef LATHE_RUN_RECORDED

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
