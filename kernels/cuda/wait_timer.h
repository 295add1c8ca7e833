// WaitTimer: how long a stream stands still in its waits for another one.
#pragma once

#include <deque>
#include <utility>
#include <vector>

#include "kernels/cuda/handles.h"

namespace lathe::cuda {

class WaitTimer {
  public:
    /// Issues `wait` to the stream, between two events that tell the time.
    template <typename Wait>
    void time(cudaStream_t stream, const Wait& wait) {
        take_finished();
        Span span = free_.empty() ? Span() : std::move(free_.back());
        if (!free_.empty()) {
            free_.pop_back();
        }
        CUDA_CHECK(cudaEventRecord(span.begin.get(), stream));
        wait();
        CUDA_CHECK(cudaEventRecord(span.end.get(), stream));
        pending_.push_back(std::move(span));
    }

    /// Of the waits that are over.
    double seconds() {
        take_finished();
        return seconds_;
    }

  private:
    struct Span {
        OwnedEvent begin = make_timing_event();
        OwnedEvent end = make_timing_event();
    };

    void take_finished() {
        while (!pending_.empty() && is_done(pending_.front().end)) {
            float milliseconds = 0.0F;
            CUDA_CHECK(cudaEventElapsedTime(&milliseconds, pending_.front().begin.get(),
                                            pending_.front().end.get()));
            seconds_ += static_cast<double>(milliseconds) * 1e-3;
            free_.push_back(std::move(pending_.front()));
            pending_.pop_front();
        }
    }

    std::deque<Span> pending_;  ///< in order of the stream
    std::vector<Span> free_;
    double seconds_ = 0.0;
};

}  // namespace lathe::cuda
