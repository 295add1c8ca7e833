#include "kernels/cuda/offload_staging.h"

#include <algorithm>
#include <cstdint>

namespace lathe::cuda {
namespace {

/// Three rows are open at once (master weights and two moments): while one lot is worked on, the
/// next is filled and the one before is written back.
constexpr size_t kSlots = 9;

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
    Slot& slot = take_slot(part.bytes());
    CUDA_CHECK(cudaStreamWaitEvent(fill_.get(), slot.free.get(), 0));
    wait_for_written(part);
    slot.written_back = Tensor();  // later fills come after this one, which has waited for it
    void* const data = slot.memory.tensor().data();
    CUDA_CHECK(cudaMemcpyAsync(data, part.data(), size_in_bytes(part), cudaMemcpyHostToDevice,
                               fill_.get()));
    CUDA_CHECK(cudaEventRecord(slot.filled.get(), fill_.get()));
    CUDA_CHECK(cudaStreamWaitEvent(compute_, slot.filled.get(), 0));
    slot.is_open = true;
    return {.part = part,
            .use = use,
            .tensor = Tensor(data, part.dtype(), part.shape()),
            .staging = {}};
}

void OffloadStaging::close(const OffloadWindow& window) {
    if (window.part.size() == 0) {
        return;
    }
    const auto slot = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& one) {
        return one.is_open && one.memory.tensor().data() == window.tensor.data();
    });
    LATHE_CHECK(slot != slots_.end(), "a window of offloaded memory is closed that was not open");
    slot->is_open = false;
    CUDA_CHECK(cudaEventRecord(slot->free.get(), compute_));
    if (window.use == OffloadUse::read) {
        return;
    }
    CUDA_CHECK(cudaStreamWaitEvent(write_back_.get(), slot->free.get(), 0));
    CUDA_CHECK(cudaMemcpyAsync(window.part.data(), window.tensor.data(), size_in_bytes(window.part),
                               cudaMemcpyDeviceToHost, write_back_.get()));
    CUDA_CHECK(cudaEventRecord(slot->free.get(), write_back_.get()));
    slot->written_back = window.part;
}

void OffloadStaging::synchronize() noexcept {
    static_cast<void>(cudaStreamSynchronize(fill_.get()));
    static_cast<void>(cudaStreamSynchronize(write_back_.get()));
}

/// The closed slot that was used longest ago, or a new one while there are few, or all are open.
OffloadStaging::Slot& OffloadStaging::take_slot(int64_t bytes) {
    const size_t count = slots_.size();
    size_t chosen = count;
    for (size_t i = 0; i < count && count >= kSlots && chosen == count; ++i) {
        const size_t candidate = (next_ + i) % count;
        chosen = slots_[candidate].is_open ? count : candidate;
    }
    if (chosen == count) {
        slots_.emplace_back();
    }
    next_ = chosen + 1;
    Slot& slot = slots_[chosen];
    if (slot.memory.tensor().bytes() < bytes) {
        resize(slot, bytes);
    }
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
