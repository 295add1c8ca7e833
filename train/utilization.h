// Model FLOPs utilisation of a run: what training reaches of what the device's matrix products do.
#pragma once

#include <functional>

namespace lathe {

class Utilization {
  public:
    /// `measure` gives the matrix-product ceiling of all ranks together, in FLOP/s; `seconds` is a
    /// steady clock.
    Utilization(double flops_per_token, std::function<double()> measure,
                std::function<double()> seconds);

    /// Measures the ceiling, the best of all measurements being kept: other programs on the same
    /// cores make any of them too low.
    void measure();
    /// Whether a step at this rate shows that the ceiling was measured too low and should be
    /// measured again: at once the first time, then when kRest_s have passed.
    bool outdone(double tokens_per_second) const;
    /// The fraction of the ceiling, at most 1: a step that is faster raises the ceiling to its own
    /// rate.
    double of(double tokens_per_second);
    /// FLOP/s; 0 before it was measured.
    double ceiling() const { return ceiling_; }

    static constexpr double kRest_s = 30;

  private:
    double flops_per_token_;
    std::function<double()> measure_;
    std::function<double()> seconds_;
    double ceiling_ = 0.0;
    int num_measurements_ = 0;
    double measured_at_ = 0.0;
};

}  // namespace lathe
