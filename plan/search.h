// Which layouts a run could have: what makes it fit, and what makes it fastest.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/report.h"

namespace lathe {

/// A change of a plan, in words, and the plan so changed.
struct Remedy {
    std::string text;
    PlanReport report;
};

/// The first change that makes the plan fit, from the cheapest kind to the dearest: stage, shard
/// size, recomputation, micro-batch, offloading; each alone, then together with those before it.
std::optional<Remedy> find_remedy(const Plan& plan, const Budget& budget);

/// All layouts of the plan's model, batch and ranks without offloading: stages, shard sizes (within
/// a node, a node, the world), recomputation, micro-batches.
std::vector<Plan> layouts(const Plan& plan);

/// One report for each layout, and one with offloading for each that does not fit without (where it
/// does, offloading only costs time); those that fit first, by tokens per second.
std::vector<PlanReport> search(const Plan& plan, const Budget& budget);

/// A ranked table of the best `count`.
std::string search_text(const std::vector<PlanReport>& reports, size_t count);
std::string search_json(const std::vector<PlanReport>& reports);

}  // namespace lathe
