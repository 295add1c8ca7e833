#include "plan/dry_backend.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace lathe {

DryBackend::DryBackend(const DryTarget& target, const DeviceSpeed& speed, const DryOptions& options)
    : target_(target),
      speed_(speed),
      options_(options),
      host_computes_(speed.hardware().target == "cpu") {
    const Hardware& hardware = speed.hardware();
    device_ = {
        .kind = hardware.target,
        .name = hardware.name,
        .num_threads = options.threads,
        .preferred_dtype = hardware.bf16_flops > hardware.f32_flops ? DType::bf16 : DType::f32,
        .offload = OffloadMemory::files,
        .computes = false};
}

void* DryBackend::take_address(int64_t bytes) {
    last_address_ = next_address_;
    next_address_ += (static_cast<uintptr_t>(bytes) / kAlignment + 1) * kAlignment;
    return reinterpret_cast<void*>(last_address_);
}

void* DryBackend::allocate_bytes(int64_t bytes) { return take_address(bytes); }
void DryBackend::free_bytes(void* data, int64_t) noexcept { end_allocation(data); }
void* DryBackend::allocate_offloaded_bytes(int64_t bytes, const std::filesystem::path&) {
    return take_address(bytes);
}
void DryBackend::free_offloaded_bytes(void* data, int64_t) noexcept { end_allocation(data); }

void DryBackend::end_allocation(void* data) noexcept {
    const auto found = living_.find(reinterpret_cast<uintptr_t>(data));
    if (found != living_.end()) {
        record_.allocations[found->second].end_s = clock(Stream::compute);
        living_.erase(found);
    }
}

void DryBackend::memory_changed(MemoryCategory category, int64_t bytes) noexcept {
    if (bytes == 0) {
        return;
    }
    const MemoryUsage usage = memory();
    const MemoryMoment moment = {.time_s = std::max(host_s_, clock(Stream::compute)),
                                 .label = static_cast<int32_t>(record_.labels.size()) - 1,
                                 .what = last_what_,
                                 .bytes = usage.current_bytes,
                                 .total_bytes = usage.total_bytes};
    const auto index = static_cast<size_t>(category);
    if (moment.total_bytes > record_.peak.total_bytes) {
        record_.peak = moment;
    }
    if (moment.bytes[index] > record_.category_peaks[index].bytes[index]) {
        record_.category_peaks[index] = moment;
    }
    if (!options_.keep_spans) {
        return;
    }
    record_.moments.push_back(moment);
    if (bytes > 0) {
        living_[last_address_] = record_.allocations.size();
        record_.allocations.push_back({.category = category,
                                       .bytes = bytes,
                                       .begin_s = moment.time_s,
                                       .end_s = std::numeric_limits<double>::infinity()});
    }
}

void DryBackend::restart_record() {
    reset_peaks();
    DryRecord fresh;
    fresh.labels = {record_.labels.back()};
    const MemoryUsage usage = memory();
    fresh.peak = {.time_s = std::max(host_s_, clock(Stream::compute)),
                  .what = last_what_,
                  .bytes = usage.current_bytes,
                  .total_bytes = usage.total_bytes};
    fresh.category_peaks.fill(fresh.peak);
    if (options_.keep_spans) {
        fresh.moments.push_back(fresh.peak);
        for (auto& [address, index] : living_) {
            fresh.allocations.push_back(record_.allocations[index]);
            index = fresh.allocations.size() - 1;
        }
    }
    record_ = std::move(fresh);
}

void DryBackend::label(const char* phase, std::string_view unit) {
    updates_ = std::strcmp(phase, "optimizer") == 0 || std::strcmp(phase, "gradient norm") == 0;
    record_.labels.push_back({.phase = phase, .unit = std::string(unit)});
}

void DryBackend::occupy(std::string_view what, Stream stream, double seconds, double busy_s,
                        double flops, double bytes) {
    last_what_ = what;
    const bool beside = stream == Stream::communication && options_.overlap;
    if (!host_computes_) {
        host_s_ += speed_.hardware().launch_s;
    }
    double& until_s = clock(stream);
    const double begin_s = std::max(until_s, host_s_);
    until_s = begin_s + seconds;
    if (host_computes_ && beside) {
        // The cores that it uses, the others do without.
        clocks_s_[0] += busy_s / speed_.one_thread_factor();
    }
    if (host_computes_) {
        host_s_ = clocks_s_[0];
    }
    if (!beside) {
        (updates_ ? totals_.optimizer_s : totals_.compute_s) += seconds;
    }
    if (options_.keep_spans && seconds > 0.0) {
        record_.spans.push_back({.stream = stream,
                                 .begin_s = begin_s,
                                 .end_s = until_s,
                                 .label = static_cast<int32_t>(record_.labels.size()) - 1,
                                 .what = what,
                                 .flops = flops,
                                 .bytes = bytes});
    }
}

void DryBackend::operate(std::string_view what, const OperationCost& cost, Stream stream) {
    double seconds = speed_.seconds(cost);
    if (stream == Stream::communication && options_.overlap) {
        seconds *= speed_.one_thread_factor();
    }
    const auto index = static_cast<size_t>(cost.operation_class);
    totals_.flops += cost.flops;
    totals_.bytes += cost.bytes();
    totals_.class_seconds[index] += seconds;
    totals_.class_flops[index] += cost.flops;
    totals_.num_operations += 1.0;
    occupy(what, stream, seconds, seconds, cost.flops, cost.bytes());
}

void DryBackend::communicate(std::string_view what, double seconds, double busy_s,
                             double sent_bytes) {
    totals_.sent_bytes += sent_bytes;
    last_what_ = what;
    if (!options_.overlap) {
        // In the compute stream's time, but not its work.
        const double before_compute_s = totals_.compute_s;
        const double before_optimizer_s = totals_.optimizer_s;
        occupy(what, Stream::communication, seconds, busy_s, 0.0, sent_bytes);
        totals_.compute_s = before_compute_s;
        totals_.optimizer_s = before_optimizer_s;
        totals_.exposed_s += seconds;
        return;
    }
    occupy(what, Stream::communication, seconds, busy_s, 0.0, sent_bytes);
}

void DryBackend::execute_copy(const Tensor& destination, const Tensor& source, Stream stream) {
    LATHE_CHECK(destination.dtype() == source.dtype() && destination.size() == source.size(),
                "copy: {} of {} to {} of {}", source.shape().text(), name_of(source.dtype()),
                destination.shape().text(), name_of(destination.dtype()));
    operate("copy",
            {.operation_class = OperationClass::copy,
             .read_bytes = static_cast<double>(source.bytes()),
             .written_bytes = static_cast<double>(source.bytes()),
             .extent = source.bytes()},
            stream);
}

void DryBackend::execute_fill_zero(const Tensor& tensor, Stream stream) {
    operate("fill_zero",
            {.operation_class = OperationClass::copy,
             .written_bytes = static_cast<double>(tensor.bytes()),
             .extent = tensor.bytes()},
            stream);
}

void DryBackend::execute_copy_from_host(const Tensor& destination, const void*) {
    const auto bytes = static_cast<double>(destination.bytes());
    const double seconds =
        host_computes_ ? speed_.copy_seconds(2.0 * bytes) : speed_.host_seconds(bytes);
    occupy("copy_from_host", Stream::compute, seconds, seconds);
}

void DryBackend::execute_copy_to_host(void* destination, const Tensor& source) {
    if (source.bytes() > 0) {
        std::memset(destination, 0, static_cast<size_t>(source.bytes()));
    }
    const auto bytes = static_cast<double>(source.bytes());
    const double seconds =
        host_computes_ ? speed_.copy_seconds(2.0 * bytes) : speed_.host_seconds(bytes);
    occupy("copy_to_host", Stream::compute, seconds, seconds);
    synchronize(Stream::compute);
}

DryBackend::OffloadSlot& DryBackend::fill_slot(const Tensor& part) {
    OffloadSlot& slot = slots_.take();
    if (slot.memory.tensor().bytes() < part.bytes()) {
        slot.memory.reset();
        slot.memory = allocate({(part.bytes() + 3) / 4}, DType::f32, MemoryCategory::workspace);
    }
    fill_s_ = std::max({fill_s_, slot.free_s, host_s_}) +
              speed_.host_seconds(static_cast<double>(part.bytes()));
    slot.filled_s = slot.free_s = fill_s_;
    return slot;
}

OffloadWindow DryBackend::execute_open_offloaded(const Tensor& part, OffloadUse use) {
    const double seconds = speed_.host_seconds(static_cast<double>(part.bytes()));
    if (!target_.stages_offloaded()) {
        occupy("open_offloaded", Stream::compute, seconds, seconds);
        return Backend::execute_open_offloaded(part, use);
    }
    if (part.size() == 0) {
        return {.part = part, .use = use, .tensor = part, .staging = {}};
    }
    OffloadSlot* const ready = slots_.prefetched(part);
    OffloadSlot& slot = ready != nullptr ? *ready : fill_slot(part);
    slot.prefetched = Tensor();
    slot.is_open = true;
    clock(Stream::compute) = std::max(clock(Stream::compute), slot.filled_s);
    return {.part = part,
            .use = use,
            .tensor = Tensor(slot.memory.tensor().data(), part.dtype(), part.shape()),
            .staging = {}};
}

bool DryBackend::prefetch_offloaded(const Tensor& part) {
    if (!target_.stages_offloaded()) {
        return false;
    }
    if (part.size() == 0 || slots_.prefetched(part) != nullptr) {
        return true;
    }
    if (!slots_.has_spare()) {
        return false;
    }
    fill_slot(part).prefetched = part;
    return true;
}

void DryBackend::execute_close_offloaded(OffloadWindow window) {
    const double seconds = speed_.host_seconds(static_cast<double>(window.part.bytes()));
    const bool changed = window.use == OffloadUse::change;
    if (!target_.stages_offloaded()) {
        occupy("close_offloaded", Stream::compute, changed ? seconds : 0.0,
               changed ? seconds : 0.0);
        return;
    }
    OffloadSlot* const slot = slots_.open_at(window.tensor.data());
    if (slot == nullptr) {
        return;  // an empty part
    }
    slot->is_open = false;
    slot->free_s = clock(Stream::compute);
    if (changed) {
        write_back_s_ = std::max(write_back_s_, slot->free_s) + seconds;
        slot->free_s = write_back_s_;
    }
}

Event DryBackend::record(Stream stream) {
    events_s_.push_back(clock(stream));
    return {.ticket = static_cast<int64_t>(events_s_.size()) - 1};
}

void DryBackend::execute_wait(Stream stream, Event event) {
    const double time_s = events_s_[static_cast<size_t>(event.ticket)];
    if (stream == Stream::compute && host_computes_) {
        host_waits_until(time_s, true);
        return;
    }
    double& until_s = clock(stream);
    if (stream == Stream::compute) {
        totals_.exposed_s += std::max(0.0, time_s - std::max(until_s, host_s_));
    }
    until_s = std::max(until_s, time_s);
}

void DryBackend::execute_synchronize(Stream stream) {
    host_waits_until(clock(stream), stream == Stream::communication);
}

/// Nothing is issued, and so nothing new computed, until then.
void DryBackend::host_waits_until(double time_s, bool for_communication) {
    if (for_communication) {
        totals_.exposed_s += std::max(0.0, time_s - std::max(host_s_, clock(Stream::compute)));
    }
    host_s_ = std::max(host_s_, time_s);
    if (host_computes_) {
        clocks_s_[0] = std::max(clocks_s_[0], host_s_);
    }
}

}  // namespace lathe
