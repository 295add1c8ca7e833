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

/// The plan's model, batch and ranks at all stages, shard sizes (within a node, a node, the world)
/// and micro-batches.
std::vector<Plan> layouts(const Plan& plan);

struct Search {
    size_t num_layouts = 0;  ///< each of the above with every recomputation, offloaded and not
    /// Of those planned: where one fits, more recomputation or offloading only costs time. Those
    /// that fit first, by tokens per second.
    std::vector<PlanReport> reports;
};
Search search(const Plan& plan, const Budget& budget);

/// A ranked table of the best `count`.
std::string search_text(const Search& search, size_t count);
std::string search_json(const Search& search);

}  // namespace lathe
