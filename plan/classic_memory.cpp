#include "plan/classic_memory.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "plan/report.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

constexpr double kGigabyte = 1e9;
constexpr std::array<const char*, 4> kStages = {"DDP", "ZeRO-1", "ZeRO-2", "ZeRO-3"};

std::array<BytesPerParameter, 3> kinds() {
    return {classic_f32(), classic_mixed(), classic_8bit()};
}

std::string gigabytes(double bytes) {
    return bytes < kGigabyte ? fmt::format("{:.3g} GB", bytes / kGigabyte)
                             : fmt::format("{:.1f} GB", bytes / kGigabyte);
}

}  // namespace

BytesPerParameter classic_f32() { return {"f32", 4.0, 4.0, 8.0, 8.0}; }
BytesPerParameter classic_mixed() { return {"bf16 mixed", 2.0, 2.0, 12.0, 4.0}; }
// Weights, gradients and both moments in a byte each (moments: arXiv 2110.02861).
BytesPerParameter classic_8bit() { return {"8-bit", 1.0, 1.0, 2.0, 2.0}; }

double classic_bytes(const BytesPerParameter& each, double parameters, double ranks, int stage) {
    const double weights = each.weights / (stage >= 3 ? ranks : 1.0);
    const double gradients = each.gradients / (stage >= 2 ? ranks : 1.0);
    const double optimizer = each.optimizer / (stage >= 1 ? ranks : 1.0);
    return parameters * (weights + gradients + optimizer);
}

double lathe_bytes(bool mixed, double parameters, double ranks, int stage) {
    const double weights = (mixed ? 2.0 : 4.0) / (stage >= 3 ? ranks : 1.0);
    const double gradients = 4.0 / ranks;
    const double optimizer = (mixed ? 12.0 : 8.0) / (stage >= 1 ? ranks : 1.0);
    return parameters * (weights + gradients + optimizer);
}

std::string classic_memory_text(double parameters, int64_t ranks) {
    const auto n = static_cast<double>(ranks);
    std::string text =
        fmt::format("{} parameters (1 GB = 10^9 bytes)\n\n{:<12}", count_text(parameters), "");
    for (const char* column : {"weights", "gradients", "Adam", "activations", "all", "quoted"}) {
        text += fmt::format("{:>13}", column);
    }
    text += "\n";
    for (const BytesPerParameter& kind : kinds()) {
        text += fmt::format("{:<12}", kind.name);
        for (const double bytes : {kind.weights, kind.gradients, kind.optimizer, kind.activations,
                                   kind.all(), 20.0 * kind.weights}) {
            text += fmt::format("{:>13}", gigabytes(parameters * bytes));
        }
        text += "\n";
    }
    text += fmt::format(
        "\nThe sum of bytes and the often quoted figure (20 times the weights) disagree: in f32 {} "
        "against {}.\nThe sum counts what must be there; its activations are a rule of thumb "
        "(twice "
        "the weights). The quoted\nfigure is another rule of thumb, for one GPU with room to "
        "spare. `lathe plan --config` counts instead.\n",
        gigabytes(parameters * classic_f32().all()), gigabytes(parameters * 80.0));
    text += fmt::format("\non each of {} ranks, without activations\n{:<20}", ranks, "");
    for (const char* stage : kStages) {
        text += fmt::format("{:>13}", stage);
    }
    text += "\n";
    const auto line = [&](const std::string& name, const auto& bytes) {
        text += fmt::format("{:<20}", name);
        for (int stage = 0; stage < 4; ++stage) {
            text += fmt::format("{:>13}", gigabytes(bytes(stage)));
        }
        text += "\n";
    };
    for (const BytesPerParameter& kind : kinds()) {
        line(kind.name, [&](int stage) { return classic_bytes(kind, parameters, n, stage); });
    }
    line("Lathe, f32", [&](int stage) { return lathe_bytes(false, parameters, n, stage); });
    line("Lathe, bf16 mixed", [&](int stage) { return lathe_bytes(true, parameters, n, stage); });
    return text +
           "\nLathe sums gradients in f32, each at one rank only, at every stage; one unit's whole "
           "row and staging buffers come on top.\n";
}

std::string classic_memory_json(double parameters, int64_t ranks) {
    ordered_json json = {{"parameters", parameters}, {"ranks", ranks}};
    const auto stages = [&](const auto& bytes) {
        ordered_json by_stage = ordered_json::object();
        for (int stage = 0; stage < 4; ++stage) {
            by_stage[kStages[static_cast<size_t>(stage)]] = bytes(stage);
        }
        return by_stage;
    };
    for (const BytesPerParameter& kind : kinds()) {
        json["kinds"][kind.name] = {{"weights_bytes", parameters * kind.weights},
                                    {"gradients_bytes", parameters * kind.gradients},
                                    {"optimizer_bytes", parameters * kind.optimizer},
                                    {"activations_bytes", parameters * kind.activations},
                                    {"sum_bytes", parameters * kind.all()},
                                    {"quoted_bytes", parameters * 20.0 * kind.weights},
                                    {"rank_bytes", stages([&](int stage) {
                                         return classic_bytes(kind, parameters,
                                                              static_cast<double>(ranks), stage);
                                     })}};
    }
    for (const bool mixed : {false, true}) {
        json["lathe"][mixed ? "bf16 mixed" : "f32"] = stages([&](int stage) {
            return lathe_bytes(mixed, parameters, static_cast<double>(ranks), stage);
        });
    }
    return json.dump(2) + "\n";
}

}  // namespace lathe
