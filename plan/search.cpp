#include "plan/search.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
#include <iterator>
#include <mutex>
#include <nlohmann/json.hpp>
#include <span>
#include <thread>

namespace lathe {
namespace {

int64_t shard_size_of(const Plan& plan) {
    const int64_t given = plan.config.parallel.shard_size;
    return given == 0 ? plan.ranks : given;
}

/// Micro-batches up to the configured one by halves, as far as they divide the global batch.
std::vector<int64_t> smaller_micro_batches(const Plan& plan) {
    std::vector<int64_t> sizes;
    for (int64_t size = plan.config.train.micro_batch / 2; size >= 1; size /= 2) {
        if (plan.config.train.global_batch % size == 0) {
            sizes.push_back(size);
        }
    }
    return sizes;
}

/// Divisors of the ranks that a layout of machines suggests; 1 is no sharding.
std::vector<int64_t> shard_sizes(const Plan& plan) {
    std::vector<int64_t> sizes;
    const int64_t node = std::min(plan.ranks, plan.resolved_ranks_per_node());
    for (const int64_t size :
         {int64_t{1}, node / 2, node, 2 * node, 4 * node, 8 * node, int64_t{plan.ranks}}) {
        if (size >= 1 && size <= plan.ranks && plan.ranks % size == 0 &&
            std::find(sizes.begin(), sizes.end(), size) == sizes.end()) {
            sizes.push_back(size);
        }
    }
    return sizes;
}

struct Change {
    std::string text;
    std::function<void(RunConfig&)> apply;
};

/// Changes of one kind, from the cheapest to the dearest.
using Kind = std::vector<Change>;

std::vector<Kind> kinds_of_change(const Plan& plan) {
    std::vector<Kind> kinds(5);
    if (plan.ranks > 1) {
        for (int64_t stage = plan.config.parallel.zero_stage + 1; stage <= 3; ++stage) {
            kinds[0].push_back({fmt::format("--zero-stage {}", stage), [stage](RunConfig& config) {
                                    config.parallel.zero_stage = stage;
                                }});
        }
        for (const int64_t size : shard_sizes(plan)) {
            if (size > shard_size_of(plan)) {
                kinds[1].push_back(
                    {fmt::format("--shard-size {}", size),
                     [size](RunConfig& config) { config.parallel.shard_size = size; }});
            }
        }
    }
    const Recompute now = plan.config.train.recompute;
    if (now == Recompute::none) {
        kinds[2].push_back({"--recompute selective", [](RunConfig& config) {
                                config.train.recompute = Recompute::selective;
                            }});
    }
    if (now != Recompute::full) {
        kinds[2].push_back({"--recompute full",
                            [](RunConfig& config) { config.train.recompute = Recompute::full; }});
    }
    for (const int64_t size : smaller_micro_batches(plan)) {
        kinds[3].push_back({fmt::format("--micro-batch {}", size),
                            [size](RunConfig& config) { config.train.micro_batch = size; }});
    }
    if (plan.config.parallel.offload == Offload::none) {
        kinds[4].push_back({"--offload optimizer", [](RunConfig& config) {
                                config.parallel.offload = Offload::optimizer;
                            }});
    }
    return kinds;
}

/// Tries a plan; what is found fits.
std::optional<Remedy> tried(Plan plan, const Budget& budget, const std::string& text) {
    plan.keep_spans = false;
    PlanReport report = make_report(plan, budget);
    if (!report.fits) {
        return std::nullopt;
    }
    return Remedy{.text = text, .report = std::move(report)};
}

/// From the fastest to the one that needs the least memory.
constexpr Recompute kRecomputations[] = {Recompute::none, Recompute::selective, Recompute::full};
constexpr Offload kOffloads[] = {Offload::none, Offload::optimizer};

/// The plan with ever more recomputation until it fits; then, of those that did not, with
/// offloading. All that were tried.
std::vector<PlanReport> until_it_fits(Plan plan, const Budget& budget) {
    std::vector<PlanReport> reports;
    size_t num_too_large = std::size(kRecomputations);
    for (const Offload offload : kOffloads) {
        plan.config.parallel.offload = offload;
        const size_t count = num_too_large;
        num_too_large = 0;
        for (bool fits = false; num_too_large < count && !fits; num_too_large += fits ? 0 : 1) {
            plan.config.train.recompute = kRecomputations[num_too_large];
            reports.push_back(make_report(plan, budget));
            fits = reports.back().fits;
        }
    }
    return reports;
}

/// On all processors that this process may use.
std::vector<PlanReport> reports_of(std::span<const Plan> plans, const Budget& budget) {
    std::vector<PlanReport> reports;
    std::atomic<size_t> next = 0;
    std::mutex mutex;
    std::exception_ptr failure;
    const auto work = [&] {
        for (size_t i = next++; i < plans.size(); i = next++) {
            try {
                std::vector<PlanReport> found = until_it_fits(plans[i], budget);
                const std::scoped_lock lock(mutex);
                std::move(found.begin(), found.end(), std::back_inserter(reports));
            } catch (...) {
                const std::scoped_lock lock(mutex);
                failure = std::current_exception();
            }
        }
    };
    std::vector<std::jthread> threads;
    for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) {
        threads.emplace_back(work);
    }
    work();
    threads.clear();
    if (failure) {
        std::rethrow_exception(failure);
    }
    return reports;
}

}  // namespace

std::optional<Remedy> find_remedy(const Plan& plan, const Budget& budget) {
    const std::vector<Kind> kinds = kinds_of_change(plan);
    for (const Kind& kind : kinds) {
        for (const Change& change : kind) {
            Plan changed = plan;
            change.apply(changed.config);
            if (auto remedy = tried(changed, budget, change.text)) {
                return remedy;
            }
        }
    }
    // Each kind's strongest change joins those before it.
    Plan together = plan;
    std::string text;
    for (const Kind& kind : kinds) {
        Plan before = together;
        for (const Change& change : kind) {
            Plan changed = before;
            change.apply(changed.config);
            const std::string all = text.empty() ? change.text : text + " " + change.text;
            if (auto remedy = text.empty() ? std::nullopt : tried(changed, budget, all)) {
                return remedy;
            }
            together = changed;
        }
        if (!kind.empty()) {
            text += (text.empty() ? "" : " ") + kind.back().text;
        }
    }
    return std::nullopt;
}

std::vector<Plan> layouts(const Plan& plan) {
    std::vector<Plan> all;
    std::vector<int64_t> micro_batches = smaller_micro_batches(plan);
    for (int64_t size = plan.config.train.micro_batch; size <= 64; size *= 2) {
        if (plan.config.train.global_batch % size == 0 &&
            plan.config.train.global_batch / size >= plan.ranks) {
            micro_batches.push_back(size);
        }
    }
    if (micro_batches.empty()) {
        micro_batches.push_back(plan.config.train.micro_batch);
    }
    // Stages 1 and 2 differ only in a native reduction.
    const bool native = plan.config.parallel.reduction == Reduction::native;
    for (const int64_t shard_size : shard_sizes(plan)) {
        for (const int64_t stage : {0, 1, 2, 3}) {
            if ((stage == 0) != (shard_size == 1) || (stage == 2 && !native)) {
                continue;
            }
            for (const int64_t micro_batch : micro_batches) {
                Plan layout = plan;
                layout.keep_spans = false;
                layout.config.parallel.shard_size = shard_size;
                layout.config.parallel.zero_stage = stage;
                layout.config.parallel.offload_folder.clear();
                layout.config.train.micro_batch = micro_batch;
                all.push_back(std::move(layout));
            }
        }
    }
    return all;
}

Search search(const Plan& plan, const Budget& budget) {
    const std::vector<Plan> plans = layouts(plan);
    Search result = {
        .num_layouts = plans.size() * std::size(kRecomputations) * std::size(kOffloads),
        .reports = reports_of(plans, budget)};
    // By name too: threads found them in any order.
    std::sort(result.reports.begin(), result.reports.end(),
              [](const PlanReport& a, const PlanReport& b) {
                  if (a.fits != b.fits || a.tokens_per_second != b.tokens_per_second) {
                      return a.fits != b.fits ? a.fits : a.tokens_per_second > b.tokens_per_second;
                  }
                  return layout_text(a.plan) < layout_text(b.plan);
              });
    return result;
}

std::string search_text(const Search& search, size_t count) {
    const std::vector<PlanReport>& reports = search.reports;
    const auto num_fit = std::count_if(reports.begin(), reports.end(),
                                       [](const PlanReport& report) { return report.fits; });
    std::string text = fmt::format(
        "{} layouts: {} fit, {} do not, and {} only recompute or offload more than one that "
        "fits\n\n{:>12} {:>8} {:>11} {:>12}   {}\n",
        search.num_layouts, num_fit, std::ssize(reports) - num_fit,
        search.num_layouts - reports.size(), "tokens/s", "of peak", "step", "memory", "layout");
    for (size_t i = 0; i < std::min(count, reports.size()); ++i) {
        const PlanReport& report = reports[i];
        text += fmt::format("{:>12} {:>7.1f}% {:>11} {:>12}   {}{}\n",
                            count_text(report.tokens_per_second), 100.0 * report.utilization,
                            seconds_text(report.result.step_s),
                            bytes_text(static_cast<double>(report.result.memory.total_peak_bytes)),
                            layout_text(report.plan), report.fits ? "" : " (does not fit)");
    }
    return text;
}

std::string search_json(const Search& search) {
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const PlanReport& report : search.reports) {
        all.push_back(nlohmann::ordered_json::parse(report_json(report)));
    }
    return all.dump(2) + "\n";
}

}  // namespace lathe
