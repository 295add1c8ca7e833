#include "kernels/cuda/offload_staging.h"

#include <cstdint>

namespace lathe::cuda {
namespace {

bool overlap(const Tensor& a, const Tensor& b) {
    const auto begin = [](const Tensor& x) { return reinterpret_cast<uintptr_t>(x.data()); };
    const auto end = [&](const Tensor& x) { return begin(x) + static_cast<size_t>(x.bytes()); };
    return begin(a) < end(b) && begin(b) < end(a);
}

size_t size_in_bytes(const Tensor& tensor) { return static_cast<size_t>(tensor.bytes()); }

}  // namespace

OffloadWindow OffloadStaging::open(const Tensor& part, OffloadUse use) {
    if (part.size() == 0) {
        return {.part = part, .use = use, .tensor = part, .staging = {}};
    }
    Slot* const ready = slots_.prefetched(part);
    Slot& slot = ready != nullptr ? *ready : fill(part);
    CUDA_CHECK(cudaStreamWaitEvent(compute_, slot.filled.get(), 0));
    slot.prefetched = Tensor();
    slot.is_open = true;
    return {.part = part,
            .use = use,
            .tensor = Tensor(slot.memory.tensor().data(), part.dtype(), part.shape()),
            .staging = {}};
}

bool OffloadStaging::prefetch(const Tensor& part) {
    if (part.size() == 0 || slots_.prefetched(part) != nullptr) {
        return true;
    }
    if (!slots_.has_spare()) {
        return false;
    }
    fill(part).prefetched = part;
    return true;
}

void OffloadStaging::close(const OffloadWindow& window) {
    if (window.part.size() == 0) {
        return;
    }
    Slot* const slot = slots_.open_at(window.tensor.data());
    LATHE_CHECK(slot != nullptr, "a window of offloaded memory is closed that was not open");
    slot->is_open = false;
    CUDA_CHECK(cudaEventRecord(slot->free.get(), compute_));
    if (window.use == OffloadUse::read) {
        return;
    }
    CUDA_CHECK(cudaStreamWaitEvent(write_back_.get(), slot->free.get(), 0));
    for (Slot& other : slots_) {  // what was prefetched of it is out of date
        if (other.prefetched && overlap(other.prefetched, window.part)) {
            CUDA_CHECK(cudaStreamWaitEvent(write_back_.get(), other.filled.get(), 0));
            other.prefetched = Tensor();
        }
    }
    CUDA_CHECK(cudaMemcpyAsync(window.part.data(), window.tensor.data(), size_in_bytes(window.part),
                               cudaMemcpyDeviceToHost, write_back_.get()));
    CUDA_CHECK(cudaEventRecord(slot->free.get(), write_back_.get()));
    slot->written_back = window.part;
}

void OffloadStaging::synchronize() noexcept {
    static_cast<void>(cudaStreamSynchronize(fill_.get()));
    static_cast<void>(cudaStreamSynchronize(write_back_.get()));
    for (Slot& slot : slots_) {
        slot.prefetched = slot.written_back = Tensor();
    }
}

OffloadStaging::Slot& OffloadStaging::fill(const Tensor& part) {
    Slot& slot = slots_.take();
    if (slot.memory.tensor().bytes() < part.bytes()) {
        resize(slot, part.bytes());
    }
    CUDA_CHECK(cudaStreamWaitEvent(fill_.get(), slot.free.get(), 0));
    wait_for_written(part);
    slot.written_back = Tensor();  // later fills come after this one, which has waited for it
    CUDA_CHECK(cudaMemcpyAsync(slot.memory.tensor().data(), part.data(), size_in_bytes(part),
                               cudaMemcpyHostToDevice, fill_.get()));
    CUDA_CHECK(cudaEventRecord(slot.filled.get(), fill_.get()));
    CUDA_CHECK(cudaEventRecord(slot.free.get(), fill_.get()));  // should nobody open it
    return slot;
}

/// Memory comes and goes in the compute stream's order.
void OffloadStaging::resize(Slot& slot, int64_t bytes) {
    CUDA_CHECK(cudaStreamWaitEvent(compute_, slot.free.get(), 0));
    slot.memory.reset();
    slot.memory = backend_.allocate({(bytes + 3) / 4}, DType::f32, MemoryCategory::workspace);
    CUDA_CHECK(cudaEventRecord(slot.free.get(), compute_));
}

/// What was changed and closed a moment ago may be on its way to host memory still.
void OffloadStaging::wait_for_written(const Tensor& part) {
    for (const Slot& slot : slots_) {
        if (slot.written_back && overlap(slot.written_back, part)) {
            CUDA_CHECK(cudaStreamWaitEvent(fill_.get(), slot.free.get(), 0));
        }
    }
}

}  // namespace lathe::cuda
