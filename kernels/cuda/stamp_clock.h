// StampClock: when streams come to points in them, by the host's clock, without holding them up.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "kernels/cuda/handles.h"
#include "kernels/work_recorder.h"

namespace lathe::cuda {

class StampClock {
  public:
    /// The first stamp since the last reading waits for its stream: it ties the device's clock to
    /// the host's.
    void add(cudaStream_t stream, std::shared_ptr<double> seconds) {
        if (stamps_.empty()) {
            base_ = make_timing_event();
            CUDA_CHECK(cudaEventRecord(base_.get(), stream));
            CUDA_CHECK(cudaEventSynchronize(base_.get()));
            base_s_ = WorkRecorder::now_s();
        }
        stamps_.push_back({.event = make_timing_event(), .seconds = std::move(seconds)});
        CUDA_CHECK(cudaEventRecord(stamps_.back().event.get(), stream));
    }

    /// Writes all times; the streams were waited for.
    void read() {
        for (const Stamp& stamp : stamps_) {
            float milliseconds = 0.0F;
            CUDA_CHECK(cudaEventElapsedTime(&milliseconds, base_.get(), stamp.event.get()));
            *stamp.seconds = base_s_ + static_cast<double>(milliseconds) * 1e-3;
        }
        stamps_.clear();
    }

  private:
    struct Stamp {
        OwnedEvent event;
        std::shared_ptr<double> seconds;
    };

    OwnedEvent base_;
    double base_s_ = 0.0;
    std::vector<Stamp> stamps_;
};

}  // namespace lathe::cuda
