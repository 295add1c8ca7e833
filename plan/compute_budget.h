// What to train with so much compute, and what so large a model or so many tokens take.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/hardware.h"
#include "plan/scaling_law.h"

namespace lathe {

/// What is given, 0 for what is not: FLOPs or device-days alone, or parameters, tokens, or both.
struct ComputeQuestion {
    double flops = 0.0;
    double parameters = 0.0;
    double tokens = 0.0;
    double device_days = 0.0;
    std::optional<Hardware> hardware = {};  ///< needed for device-days
    int ranks = 1;
    double utilization = 0.4;  ///< of the hardware's bf16 peak
    double price_per_hour = 0.0;
    std::string currency = "USD";
};

struct ComputeAnswer {
    double flops = 0.0;
    bool given_model = false;  ///< parameters and tokens were given: nothing is to be chosen
    double parameters = 0.0;   ///< the replication's choice, or what was given
    double tokens = 0.0;
    double loss = 0.0;  ///< nats a token, by the replication, on Chinchilla's data and tokenizer
    double loss_uncertainty = 0.0;
    double petaflops_days = 0.0;
    std::vector<Allocation> estimates;
    std::vector<OverTraining> smaller;
    std::optional<double> device_hours;
    std::optional<double> days;
    std::optional<double> cost;
};

/// Throws UsageError where too little or too much is given, or a number is not positive.
ComputeAnswer answer(const ComputeQuestion& question);

std::string compute_text(const ComputeQuestion& question, const ComputeAnswer& answer);
std::string compute_json(const ComputeQuestion& question, const ComputeAnswer& answer);

}  // namespace lathe
