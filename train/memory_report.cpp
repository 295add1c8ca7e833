#include "train/memory_report.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "kernels/files.h"
#include "model/param_layout.h"
#include "parallel/memory_formula.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

std::string mebibytes_text(const MemoryBounds& bounds) {
    constexpr double kMebibyte = 1048576.0;
    const std::string least =
        fmt::format("{:.1f}", static_cast<double>(bounds.min_bytes) / kMebibyte);
    const std::string most =
        fmt::format("{:.1f}", static_cast<double>(bounds.max_bytes) / kMebibyte);
    return least == most ? most : fmt::format("{} to {}", least, most);
}

ordered_json to_json(const MemoryBounds& bounds) {
    return {{"min", bounds.min_bytes}, {"max", bounds.max_bytes}};
}

/// One category by the formulas of all ranks.
ordered_json formula_json(const std::vector<RankMemory>& ranks, MemoryShare RankMemory::*category) {
    const MemoryShare* most = &(ranks.front().*category);
    int64_t least_bytes = most->peak_bytes;
    for (const RankMemory& rank : ranks) {
        const MemoryShare& share = rank.*category;
        least_bytes = std::min(least_bytes, share.peak_bytes);
        if (share.peak_bytes > most->peak_bytes) {
            most = &share;
        }
    }
    ordered_json staging = ordered_json::object();
    for (const NamedBytes& item : most->staging) {
        staging[item.name] = item.bytes;
    }
    ordered_json formula = to_json(MemoryBounds{least_bytes, most->peak_bytes});
    formula["ideal"] = std::llround(most->ideal_bytes);
    formula["padding"] = std::llround(most->padding_bytes);
    formula["staging"] = staging;
    return formula;
}

}  // namespace

MemorySpread gather_memory(Communicator& world, const MemoryUsage& mine, int64_t step) {
    MemorySpread spread;
    spread.num_ranks = world.size();
    const auto all = world.all_gather_bytes(std::as_bytes(std::span(&mine, 1)),
                                            {.tensor = "memory in use", .step = step});
    for (size_t rank = 0; rank < all.size(); ++rank) {
        MemoryUsage usage;
        std::memcpy(&usage, all[rank].data(), sizeof(usage));
        const auto include = [&](MemoryBounds& bounds, int64_t bytes) {
            bounds.min_bytes = rank == 0 ? bytes : std::min(bounds.min_bytes, bytes);
            bounds.max_bytes = std::max(bounds.max_bytes, bytes);
        };
        for (size_t i = 0; i < spread.categories.size(); ++i) {
            include(spread.categories[i], usage.peak_bytes[i]);
        }
        include(spread.total, usage.total_peak_bytes);
    }
    return spread;
}

std::string memory_text(const MemorySpread& spread) {
    std::string categories;
    for (size_t i = 0; i < spread.categories.size(); ++i) {
        if (static_cast<MemoryCategory>(i) != MemoryCategory::offloaded &&
            spread.categories[i].max_bytes > 0) {
            categories += fmt::format("{}{} {}", categories.empty() ? "" : ", ",
                                      name_of(static_cast<MemoryCategory>(i)),
                                      mebibytes_text(spread.categories[i]));
        }
    }
    const MemoryBounds& offloaded =
        spread.categories[static_cast<size_t>(MemoryCategory::offloaded)];
    return fmt::format(
        "peak memory of a rank {} MiB ({}){}", mebibytes_text(spread.total), categories,
        offloaded.max_bytes > 0 ? fmt::format(" and {} MiB offloaded", mebibytes_text(offloaded))
                                : "");
}

void write_memory_file(const std::filesystem::path& file, const MemorySpread& spread,
                       const RunConfig& config, DType compute, int64_t step) {
    std::vector<RankMemory> ranks;
    for (int rank = 0; rank < spread.num_ranks; ++rank) {
        ranks.push_back(rank_memory(config.model, config.parallel, compute,
                                    config.train.global_batch / config.train.micro_batch,
                                    {.rank = rank, .world_size = spread.num_ranks}));
    }
    ordered_json peaks = ordered_json::object();
    for (size_t i = 0; i < spread.categories.size(); ++i) {
        peaks[std::string(name_of(static_cast<MemoryCategory>(i)))] = to_json(spread.categories[i]);
    }
    const auto add_formula = [&](MemoryCategory category, MemoryShare RankMemory::*member) {
        peaks[std::string(name_of(category))]["formula"] = formula_json(ranks, member);
    };
    add_formula(MemoryCategory::parameters, &RankMemory::parameters);
    add_formula(MemoryCategory::gradients, &RankMemory::gradients);
    add_formula(MemoryCategory::optimizer, &RankMemory::optimizer);
    add_formula(MemoryCategory::communication, &RankMemory::communication);
    add_formula(MemoryCategory::offloaded, &RankMemory::offloaded);
    peaks["total"] = to_json(spread.total);
    const ordered_json text = {{"step", step},
                               {"ranks", spread.num_ranks},
                               {"model_parameters", ParamLayout(config.model).num_parameters()},
                               {"peak_bytes", peaks}};
    write_file(file, text.dump(1) + "\n");
}

}  // namespace lathe
