// Owners of CUDA streams, events and pinned memory.
#pragma once

#include <cstddef>
#include <utility>

#include "kernels/cuda/check.h"

namespace lathe::cuda {

/// Owns one handle; Destroy gives it back. Failures to destroy are ignored: they only repeat an
/// earlier error.
template <typename Handle, auto Destroy>
class Owner {
  public:
    Owner() = default;
    explicit Owner(Handle handle) : handle_(handle) {}
    Owner(Owner&& other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
    Owner& operator=(Owner&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    Owner(const Owner&) = delete;
    Owner& operator=(const Owner&) = delete;
    ~Owner() {
        if (handle_ != Handle{}) {
            static_cast<void>(Destroy(handle_));
        }
    }
    Handle get() const { return handle_; }

  private:
    Handle handle_{};
};

using OwnedStream = Owner<cudaStream_t, cudaStreamDestroy>;
using OwnedEvent = Owner<cudaEvent_t, cudaEventDestroy>;
using OwnedMemoryPool = Owner<cudaMemPool_t, cudaMemPoolDestroy>;
using OwnedPinned = Owner<void*, cudaFreeHost>;

inline OwnedStream make_stream() {
    cudaStream_t stream = nullptr;
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return OwnedStream(stream);
}

inline OwnedEvent make_event() {
    cudaEvent_t event = nullptr;
    CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return OwnedEvent(event);
}

/// An event that knows when it happened.
inline OwnedEvent make_timing_event() {
    cudaEvent_t event = nullptr;
    CUDA_CHECK(cudaEventCreate(&event));
    return OwnedEvent(event);
}

/// Whether what was recorded last has happened; true where nothing was.
inline bool is_done(const OwnedEvent& event) {
    const cudaError_t status = cudaEventQuery(event.get());
    if (status == cudaErrorNotReady) {
        static_cast<void>(cudaGetLastError());  // no error of a later call
    }
    return status == cudaSuccess;
}

inline OwnedPinned make_pinned(size_t bytes) {
    void* data = nullptr;
    CUDA_CHECK(cudaHostAlloc(&data, bytes, cudaHostAllocDefault));
    return OwnedPinned(data);
}

}  // namespace lathe::cuda
