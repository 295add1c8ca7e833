#include "plan/compute_budget.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "plan/report.h"

namespace lathe {
namespace {

double device_flops(const ComputeQuestion& question) {
    return question.hardware->bf16_flops * question.utilization;
}

void check(const ComputeQuestion& question) {
    const auto positive = [](const char* option, double value) {
        LATHE_CHECK_USAGE(std::isfinite(value) && value >= 0.0, "{} {}: must be a number above 0",
                          option, value);
    };
    positive("--flops", question.flops);
    positive("--params", question.parameters);
    positive("--tokens", question.tokens);
    positive("--gpu-days", question.device_days);
    positive("--price-per-hour", question.price_per_hour);
    LATHE_CHECK_USAGE(question.utilization > 0.0 && question.utilization <= 1.0,
                      "--utilization {}: must be above 0 and at most 1", question.utilization);
    LATHE_CHECK_USAGE(question.ranks >= 1, "--ranks {}: must be at least 1", question.ranks);
    const int budgets = (question.flops > 0.0 ? 1 : 0) + (question.device_days > 0.0 ? 1 : 0) +
                        (question.parameters > 0.0 || question.tokens > 0.0 ? 1 : 0);
    LATHE_CHECK_USAGE(budgets == 1,
                      "give one of --flops, --gpu-days, or --params and --tokens (one or both)");
    LATHE_CHECK_USAGE(question.device_days == 0.0 || question.hardware,
                      "--gpu-days {}: of which device? Give --hardware", question.device_days);
}

double flops_of(const ComputeQuestion& question) {
    const LossLaw law = replicated_law();
    if (question.flops > 0.0) {
        return question.flops;
    }
    if (question.device_days > 0.0) {
        return question.device_days * 86400.0 * device_flops(question);
    }
    if (question.tokens == 0.0) {
        return law.flops_for_parameters(question.parameters);
    }
    if (question.parameters == 0.0) {
        return law.flops_for_tokens(question.tokens);
    }
    return 6.0 * question.parameters * question.tokens;
}

}  // namespace

ComputeAnswer answer(const ComputeQuestion& question) {
    check(question);
    const LossLaw law = replicated_law();
    ComputeAnswer result;
    result.flops = flops_of(question);
    result.given_model = question.parameters > 0.0 && question.tokens > 0.0;
    result.estimates = compute_optimal(result.flops);
    result.parameters =
        result.given_model ? question.parameters : result.estimates.back().parameters;
    result.tokens = result.given_model ? question.tokens : result.estimates.back().tokens;
    result.loss = law.loss(result.parameters, result.tokens);
    result.loss_uncertainty = loss_uncertainty(result.parameters, result.tokens);
    result.petaflops_days = result.flops / kPetaflopsDay;
    result.smaller = over_training(result.flops);
    if (question.hardware) {
        result.device_hours = result.flops / device_flops(question) / 3600.0;
        result.days = *result.device_hours / 24.0 / question.ranks;
        const double price = question.price_per_hour > 0.0 ? question.price_per_hour
                                                           : question.hardware->price_per_hour;
        if (price > 0.0) {
            result.cost = price * *result.device_hours;
        }
    }
    return result;
}

std::string compute_text(const ComputeQuestion& question, const ComputeAnswer& answer) {
    std::string text = fmt::format("{:.4g} FLOPs (C = 6 N D), {:.4g} petaFLOP/s-days\n",
                                   answer.flops, answer.petaflops_days);
    if (answer.given_model) {
        text += fmt::format("given: {} parameters on {} tokens, {:.1f} tokens a parameter\n",
                            count_text(answer.parameters), count_text(answer.tokens),
                            answer.tokens / answer.parameters);
    }
    text += fmt::format("\ncompute-optimal by {:<34} {:>10} {:>10} {:>16}\n", "", "parameters",
                        "tokens", "tokens/parameter");
    for (const Allocation& estimate : answer.estimates) {
        text += fmt::format("  {:<50} {:>11} {:>10} {:>16.1f}\n", estimate.estimate,
                            count_text(estimate.parameters), count_text(estimate.tokens),
                            estimate.tokens / estimate.parameters);
    }
    text += fmt::format(
        "\nexpected loss of {} parameters on {} tokens: {:.3f} +- {:.3f} nats a token (the "
        "replication's law; half of what\nChinchilla's differs, and its error of E: on their data "
        "and tokenizer)\n",
        count_text(answer.parameters), count_text(answer.tokens), answer.loss,
        answer.loss_uncertainty);
    text += "\nthe same loss as the optimum by a smaller model, trained for longer\n";
    for (const OverTraining& smaller : answer.smaller) {
        text += fmt::format("  {:>10} parameters {:>10} tokens   {:+.1f}% FLOPs\n",
                            count_text(smaller.parameters), count_text(smaller.tokens),
                            100.0 * (smaller.flops / answer.flops - 1.0));
    }
    if (answer.device_hours) {
        text += fmt::format("\non {} x {} at {:.0f}% of the peak: {}, {:.4g} device hours",
                            question.ranks, question.hardware->name, 100.0 * question.utilization,
                            seconds_text(*answer.days * 86400.0), *answer.device_hours);
        if (answer.cost) {
            text += fmt::format(", {:.2f} {}", *answer.cost, question.currency);
        }
        text += "\n";
    }
    return text;
}

std::string compute_json(const ComputeQuestion& question, const ComputeAnswer& answer) {
    nlohmann::ordered_json json = {{"flops", answer.flops},
                                   {"petaflops_days", answer.petaflops_days},
                                   {"parameters", answer.parameters},
                                   {"tokens", answer.tokens},
                                   {"loss", answer.loss},
                                   {"loss_uncertainty", answer.loss_uncertainty}};
    for (const Allocation& estimate : answer.estimates) {
        json["compute_optimal"].push_back({{"estimate", estimate.estimate},
                                           {"parameters", estimate.parameters},
                                           {"tokens", estimate.tokens}});
    }
    json["over_training"] = nlohmann::ordered_json::array();
    for (const OverTraining& smaller : answer.smaller) {
        json["over_training"].push_back({{"parameters", smaller.parameters},
                                         {"tokens", smaller.tokens},
                                         {"flops", smaller.flops}});
    }
    if (answer.device_hours) {
        json["hardware"] = question.hardware->name;
        json["ranks"] = question.ranks;
        json["device_hours"] = *answer.device_hours;
        json["days"] = *answer.days;
        json["cost"] =
            answer.cost ? nlohmann::ordered_json(*answer.cost) : nlohmann::ordered_json();
        json["currency"] = question.currency;
    }
    return json.dump(2) + "\n";
}

}  // namespace lathe
