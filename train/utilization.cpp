#include "train/utilization.h"

#include <algorithm>
#include <utility>

namespace lathe {

Utilization::Utilization(double flops_per_token, std::function<double()> measure,
                         std::function<double()> seconds)
    : flops_per_token_(flops_per_token),
      measure_(std::move(measure)),
      seconds_(std::move(seconds)) {}

void Utilization::measure() {
    ceiling_ = std::max(ceiling_, measure_());
    ++num_measurements_;
    measured_at_ = seconds_();
}

bool Utilization::outdone(double tokens_per_second) const {
    return flops_per_token_ * tokens_per_second > ceiling_ &&
           (num_measurements_ < 2 || seconds_() - measured_at_ >= kRest_s);
}

double Utilization::of(double tokens_per_second) {
    const double flops = flops_per_token_ * tokens_per_second;
    ceiling_ = std::max(ceiling_, flops);
    return flops / ceiling_;
}

}  // namespace lathe
