#include "plan/report.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace lathe {
namespace {

using nlohmann::ordered_json;

constexpr size_t kLargestMoments = 3;

NamedMoment named(const DryRecord& record, const MemoryMoment& moment) {
    const WorkLabel& label = record.labels[static_cast<size_t>(moment.label)];
    return {.phase = label.phase,
            .unit = label.unit,
            .after = std::string(moment.what),
            .moment = moment};
}

std::vector<NamedMoment> largest_moments(const DryRunResult& result) {
    std::map<std::pair<std::string, std::string>, NamedMoment> by_label;
    for (const DryRecord* record : {&result.record, &result.checkpoint}) {
        for (const MemoryMoment& moment : record->moments) {
            NamedMoment candidate = named(*record, moment);
            NamedMoment& best = by_label[{candidate.phase, candidate.unit}];
            if (candidate.moment.total_bytes > best.moment.total_bytes) {
                best = std::move(candidate);
            }
        }
    }
    std::vector<NamedMoment> moments;
    for (auto& [label, moment] : by_label) {
        moments.push_back(std::move(moment));
    }
    std::stable_sort(moments.begin(), moments.end(), [](const auto& a, const auto& b) {
        return a.moment.total_bytes > b.moment.total_bytes;
    });
    moments.resize(std::min(moments.size(), kLargestMoments));
    return moments;
}

/// A rank's share of its device.
int64_t available_bytes(const Plan& plan) {
    const int64_t usable = plan.hardware.memory_bytes - plan.hardware.reserved_memory_bytes;
    const int64_t sharers =
        plan.hardware.target == "cpu" ? std::min(plan.ranks, plan.resolved_ranks_per_node()) : 1;
    return usable / sharers;
}

/// Devices that the ranks occupy: a GPU each, or the nodes of CPUs.
double num_devices(const Plan& plan) {
    if (plan.hardware.target != "cpu") {
        return plan.ranks;
    }
    const int per_node = plan.resolved_ranks_per_node();
    const int nodes = (plan.ranks + per_node - 1) / per_node;
    return nodes;
}

double peak_flops(const Plan& plan) {
    double devices = num_devices(plan);
    if (plan.hardware.target == "cpu") {
        // Of each node only the cores that its ranks use.
        const double used = static_cast<double>(plan.threads()) * plan.ranks;
        devices = std::min(devices, used / static_cast<double>(plan.hardware.cores));
    }
    return devices *
           (plan.compute() == DType::bf16 ? plan.hardware.bf16_flops : plan.hardware.f32_flops);
}

void add_budget(PlanReport& report, const Budget& budget) {
    const Plan& plan = report.plan;
    if (budget.tokens == 0) {
        return;
    }
    const int64_t per_step = plan.tokens_per_step();
    report.budget_tokens = budget.tokens;
    report.budget_steps = (budget.tokens + per_step - 1) / per_step;
    const double seconds = static_cast<double>(report.budget_steps) * report.result.step_s;
    report.budget_days = seconds / 86400.0;
    report.petaflops_days =
        training_flops_per_token(plan.config.model, plan.config.train.sequence_length) *
        static_cast<double>(budget.tokens) / kPetaflopsDay;
    report.device_hours = num_devices(plan) * seconds / 3600.0;
    report.kilowatt_hours = report.device_hours * plan.hardware.watts / 1000.0;
    const double price =
        budget.price_per_hour > 0.0 ? budget.price_per_hour : plan.hardware.price_per_hour;
    report.currency = budget.price_per_hour > 0.0 ? budget.currency : plan.hardware.currency;
    if (price > 0.0) {
        report.cost = price * report.device_hours;
    }
}

const char* recompute_text(const Plan& plan) {
    constexpr const char* kNames[] = {"none", "selective", "full"};
    return kNames[static_cast<size_t>(plan.config.train.recompute)];
}

std::string percent(double part, double whole) {
    return fmt::format("{:.1f}%", whole > 0.0 ? 100.0 * part / whole : 0.0);
}

std::string categories_text(const std::array<int64_t, kNumMemoryCategories>& bytes) {
    std::string text;
    for (size_t i = 0; i < bytes.size(); ++i) {
        if (bytes[i] > 0) {
            text += fmt::format("{}{} {}", text.empty() ? "" : ", ",
                                name_of(static_cast<MemoryCategory>(i)),
                                bytes_text(static_cast<double>(bytes[i])));
        }
    }
    return text;
}

std::string memory_lines(const PlanReport& report) {
    const MemoryUsage& memory = report.result.memory;
    const auto available = static_cast<double>(report.available_bytes);
    std::string text =
        fmt::format("\nmemory of a rank              peak     of {}\n", bytes_text(available));
    for (int i = 0; i < kNumMemoryCategories; ++i) {
        const auto category = static_cast<MemoryCategory>(i);
        const auto bytes = static_cast<double>(report.result.peak_bytes(category));
        if (bytes > 0.0) {
            text += fmt::format(
                "  {:<20} {:>12} {:>9}\n", name_of(category), bytes_text(bytes),
                category == MemoryCategory::offloaded ? "beside" : percent(bytes, available));
        }
    }
    const auto total = static_cast<double>(memory.total_peak_bytes);
    text += fmt::format("  {:<20} {:>12} {:>9}  {}\n", "all at once", bytes_text(total),
                        percent(total, available), report.fits ? "fits" : "DOES NOT FIT");
    for (const NamedMoment& moment : report.largest) {
        text += fmt::format("  {} in {}{}{} after {}: {}\n",
                            bytes_text(static_cast<double>(moment.moment.total_bytes)),
                            moment.phase, moment.unit.empty() ? "" : " of ", moment.unit,
                            moment.after, categories_text(moment.moment.bytes));
    }
    return text;
}

std::string time_lines(const PlanReport& report) {
    const DryRunResult& result = report.result;
    std::string text = "\ntime of a step (modelled)\n";
    const auto line = [&](const char* name, double seconds) {
        text += fmt::format("  {:<20} {:>12} {:>9}\n", name, seconds_text(seconds),
                            percent(seconds, result.step_s));
    };
    line("compute", result.step.compute_s);
    line("exposed communication", result.step.exposed_s);
    line("optimizer", result.step.optimizer_s);
    line("waiting for the host", report.waiting_s);
    line("all", result.step_s);
    text += fmt::format("  {} tokens/s, {:.1f}% of the peak in {}, {} sent by a rank\n",
                        count_text(report.tokens_per_second), 100.0 * report.utilization,
                        name_of(report.plan.compute()), bytes_text(result.step.sent_bytes));
    return text;
}

std::string budget_lines(const PlanReport& report) {
    if (report.budget_tokens == 0) {
        return "";
    }
    std::string text = fmt::format(
        "\n{} tokens: {} steps, {}, {:.3g} petaFLOP/s-days, {:.4g} device hours",
        count_text(static_cast<double>(report.budget_tokens)), report.budget_steps,
        seconds_text(report.budget_days * 86400.0), report.petaflops_days, report.device_hours);
    if (report.kilowatt_hours > 0.0) {
        text += fmt::format(", {:.4g} kWh", report.kilowatt_hours);
    }
    if (report.cost) {
        text += fmt::format(", {:.2f} {}", *report.cost, report.currency);
    }
    return text + "\n";
}

ordered_json categories_json(const std::array<int64_t, kNumMemoryCategories>& bytes) {
    ordered_json json = ordered_json::object();
    for (size_t i = 0; i < bytes.size(); ++i) {
        json[std::string(name_of(static_cast<MemoryCategory>(i)))] = bytes[i];
    }
    return json;
}

}  // namespace

std::string bytes_text(double bytes) {
    if (bytes >= 1073741824.0) {
        return fmt::format("{:.2f} GiB", bytes / 1073741824.0);
    }
    return fmt::format("{:.1f} MiB", bytes / 1048576.0);
}

std::string seconds_text(double seconds) {
    if (seconds < 1.0) {
        return fmt::format("{:.4g} ms", 1e3 * seconds);
    }
    if (seconds < 600.0) {
        return fmt::format("{:.2f} s", seconds);
    }
    if (seconds < 2.0 * 86400.0) {
        return fmt::format("{:.2f} hours", seconds / 3600.0);
    }
    return fmt::format("{:.1f} days", seconds / 86400.0);
}

std::string count_text(double count) {
    constexpr std::pair<double, const char*> kUnits[] = {
        {1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}};
    for (const auto& [unit, letter] : kUnits) {
        if (count >= unit) {
            return fmt::format("{:.4g}{}", count / unit, letter);
        }
    }
    return fmt::format("{:.4g}", count);
}

std::string layout_text(const Plan& plan) {
    const ParallelConfig& parallel = plan.config.parallel;
    return fmt::format("stage {}, shard size {}, recompute {}, micro-batch {}{}",
                       parallel.zero_stage,
                       parallel.shard_size == 0 ? plan.ranks : parallel.shard_size,
                       recompute_text(plan), plan.config.train.micro_batch,
                       parallel.offload == Offload::optimizer ? ", offload optimizer" : "");
}

PlanReport make_report(const Plan& plan, const Budget& budget) {
    PlanReport report;
    report.plan = plan;
    report.result = dry_run(plan);
    const DryRunResult& result = report.result;
    report.available_bytes = available_bytes(plan);
    report.fits = result.memory.total_peak_bytes <= report.available_bytes;
    report.largest = largest_moments(result);
    report.tokens_per_second = static_cast<double>(plan.tokens_per_step()) / result.step_s;
    report.utilization =
        training_flops_per_token(plan.config.model, plan.config.train.sequence_length) *
        report.tokens_per_second / peak_flops(plan);
    report.waiting_s = std::max(0.0, result.step_s - result.step.compute_s - result.step.exposed_s -
                                         result.step.optimizer_s);
    add_budget(report, budget);
    return report;
}

std::string report_text(const PlanReport& report) {
    const Plan& plan = report.plan;
    std::string text = fmt::format(
        "{} parameters in {} on {} {} of {} ({} a node)\n{} x {} tokens a step, {}, {} {} of "
        "micro-batches\n",
        count_text(static_cast<double>(report.result.num_parameters)), name_of(plan.compute()),
        plan.ranks, plan.ranks == 1 ? "rank" : "ranks", plan.hardware.name,
        std::min(plan.ranks, plan.resolved_ranks_per_node()), plan.config.train.global_batch,
        plan.config.train.sequence_length, layout_text(plan), report.result.rounds,
        report.result.rounds == 1 ? "round" : "rounds");
    if (plan.micro_batches() < plan.ranks) {
        text +=
            fmt::format("warning: {} micro-batches for {} ranks: some have nothing to compute\n",
                        plan.micro_batches(), plan.ranks);
    }
    return text + memory_lines(report) + time_lines(report) + budget_lines(report);
}

std::string report_json(const PlanReport& report) {
    const Plan& plan = report.plan;
    const DryRunResult& result = report.result;
    ordered_json json = {
        {"hardware", plan.hardware.name},
        {"ranks", plan.ranks},
        {"ranks_per_node", plan.resolved_ranks_per_node()},
        {"rank", plan.rank},
        {"model_parameters", result.num_parameters},
        {"dtype", name_of(plan.compute())},
        {"layout",
         {{"zero_stage", plan.config.parallel.zero_stage},
          {"shard_size",
           plan.config.parallel.shard_size == 0 ? plan.ranks : plan.config.parallel.shard_size},
          {"recompute", recompute_text(plan)},
          {"micro_batch", plan.config.train.micro_batch},
          {"offload", plan.config.parallel.offload == Offload::optimizer}}},
        {"tokens_per_step", plan.tokens_per_step()},
        {"memory",
         {{"available_bytes", report.available_bytes},
          {"fits", report.fits},
          {"peak_bytes", categories_json(result.memory.peak_bytes)},
          {"total_peak_bytes", result.memory.total_peak_bytes}}},
        {"step",
         {{"seconds", result.step_s},
          {"compute_s", result.step.compute_s},
          {"exposed_communication_s", result.step.exposed_s},
          {"optimizer_s", result.step.optimizer_s},
          {"waiting_for_host_s", report.waiting_s},
          {"flops", result.step.flops},
          {"bytes", result.step.bytes},
          {"sent_bytes", result.step.sent_bytes},
          {"rounds", result.rounds},
          {"simulated_rounds", result.simulated_rounds}}},
        {"tokens_per_second", report.tokens_per_second},
        {"utilization", report.utilization}};
    ordered_json& moments = json["memory"]["largest_moments"] = ordered_json::array();
    for (const NamedMoment& moment : report.largest) {
        moments.push_back({{"phase", moment.phase},
                           {"unit", moment.unit},
                           {"after", moment.after},
                           {"total_bytes", moment.moment.total_bytes},
                           {"bytes", categories_json(moment.moment.bytes)}});
    }
    ordered_json& classes = json["step"]["seconds_by_operation"] = ordered_json::object();
    for (int i = 0; i < kNumOperationClasses; ++i) {
        classes[std::string(name_of(static_cast<OperationClass>(i)))] =
            result.step.class_seconds[static_cast<size_t>(i)];
    }
    if (report.budget_tokens > 0) {
        json["budget"] = {
            {"tokens", report.budget_tokens},      {"steps", report.budget_steps},
            {"days", report.budget_days},          {"petaflops_days", report.petaflops_days},
            {"device_hours", report.device_hours}, {"kilowatt_hours", report.kilowatt_hours}};
        json["budget"]["cost"] = report.cost ? ordered_json(*report.cost) : ordered_json();
        json["budget"]["currency"] = report.currency;
    }
    return json.dump(2) + "\n";
}

}  // namespace lathe
