// OffloadStaging: how parts of pinned host memory come within reach of kernels: through slots of
// device memory, filled by one copy stream and written back by another, so that both directions of
// the bus work while kernels run.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/handles.h"

namespace lathe::cuda {

class OffloadStaging {
  public:
    /// Slots are memory of `backend`, used on its stream `compute`.
    OffloadStaging(Backend& backend, cudaStream_t compute) : backend_(backend), compute_(compute) {}

    /// A slot that holds `part` for whatever the compute stream is given from now on.
    OffloadWindow open(const Tensor& part, OffloadUse use);
    /// In order with the compute stream; returns at once.
    void close(const OffloadWindow& window);
    /// Blocks until all that was closed is in host memory.
    void synchronize() noexcept;

  private:
    struct Slot {
        Buffer memory;
        OwnedEvent filled = make_event();
        OwnedEvent free = make_event();  ///< when what was closed last needs the slot no more
        Tensor written_back;             ///< what `free` also says is in host memory again
        bool is_open = false;
    };

    Slot& take_slot(int64_t bytes);
    void resize(Slot& slot, int64_t bytes);
    void wait_for_written(const Tensor& part);

    Backend& backend_;
    cudaStream_t compute_;
    OwnedStream fill_ = make_stream();
    OwnedStream write_back_ = make_stream();
    std::vector<Slot> slots_;
    size_t next_ = 0;
};

}  // namespace lathe::cuda
