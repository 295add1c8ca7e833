// OffloadStaging: how parts of pinned host memory come within reach of kernels: through slots of
// device memory, filled by one copy stream and written back by another, so that both directions of
// the bus work while kernels run.
#pragma once

#include "kernels/backend.h"
#include "kernels/cuda/handles.h"
#include "kernels/cuda/offload_slots.h"

namespace lathe::cuda {

class OffloadStaging {
  public:
    /// Slots are memory of `backend`, used on its stream `compute`.
    OffloadStaging(Backend& backend, cudaStream_t compute) : backend_(backend), compute_(compute) {}

    /// A slot that holds `part` for whatever the compute stream is given from now on.
    OffloadWindow open(const Tensor& part, OffloadUse use);
    /// In order with the compute stream; returns at once.
    void close(const OffloadWindow& window);
    /// Begins to fill a free slot, for `open` to find; false where there is none.
    bool prefetch(const Tensor& part);
    /// Blocks until all that was closed is in host memory; forgets what was prefetched.
    void synchronize() noexcept;

  private:
    struct Slot : OffloadSlot {
        OwnedEvent filled = make_event();
        OwnedEvent free = make_event();  ///< when what came last needs the slot no more
        Tensor written_back;             ///< what `free` also says is in host memory again
    };

    Slot& fill(const Tensor& part);
    void resize(Slot& slot, int64_t bytes);
    void wait_for_written(const Tensor& part);

    Backend& backend_;
    cudaStream_t compute_;
    OwnedStream fill_ = make_stream();
    OwnedStream write_back_ = make_stream();
    OffloadSlots<Slot> slots_;
};

}  // namespace lathe::cuda
