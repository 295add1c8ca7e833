#include "train/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <future>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "kernels/files.h"
#include "model/hugging_face_folder.h"
#include "parallel/shared_failure.h"

namespace lathe {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr std::string_view kStepPrefix = "step-";

void read_optimizer_file(const fs::path& folder, Trainer& trainer, int unit) {
    const SafetensorsFile file(folder / optimizer_file_name(unit, trainer.layout().num_units()));
    for (const auto& [ending, state] : optimizer_rows(trainer.params())) {
        std::vector<float> row(
            static_cast<size_t>(trainer.layout().units()[static_cast<size_t>(unit)].size));
        for (const ParamTensor& tensor : trainer.layout().tensors_of(unit)) {
            const std::span<float> values(row.data() + tensor.offset,
                                          static_cast<size_t>(tensor.shape.size()));
            read_elements(file.at(tensor.name + ending, extents_of(tensor.shape)), 0, values);
        }
        trainer.params().write(unit, state, 0, row);
    }
}

void compare_checksums(const fs::path& folder) {
    const fs::path path = folder / kChecksumsFile;
    LATHE_CHECK_USAGE(fs::exists(path),
                      "{}: is missing; remove {} to go on from an earlier checkpoint",
                      path.string(), folder.string());
    std::map<std::string, json> checksums;
    try {
        checksums = json::parse(read_file(path)).get<std::map<std::string, json>>();
        for (const auto& [name, expected] : checksums) {
            LATHE_CHECK_USAGE(
                fs::exists(folder / name) && fs::file_size(folder / name) == expected.at("bytes") &&
                    checksum_file(folder / name) == expected.at("xxh3"),
                "{}: missing or damaged (its checksum is another); remove {} to go on from an "
                "earlier checkpoint",
                (folder / name).string(), folder.string());
        }
    } catch (const json::exception& error) {
        fail_usage("{}: damaged: {}; remove {} to go on from an earlier checkpoint", path.string(),
                   error.what(), folder.string());
    }
    LATHE_CHECK_USAGE(checksums.contains(kStateFile),
                      "{}: names no {}; remove {} to go on from an earlier checkpoint",
                      path.string(), kStateFile, folder.string());
}

}  // namespace

bool is_checkpoint(const fs::path& folder) {
    return fs::exists(folder / kStateFile) || fs::exists(folder / kChecksumsFile);
}

CheckpointState verify_checkpoint(const fs::path& folder) {
    compare_checksums(folder);
    return read_state(folder);
}

CheckpointState verify_checkpoint(const fs::path& folder, Communicator& world) {
    SharedFailure failure(world);
    if (world.rank() == 0) {
        failure.run([&] { compare_checksums(folder); });
    }
    failure.agree({.tensor = "a checkpoint's checksums", .step = 0});
    return read_state(folder);
}

void load_parameters(const fs::path& folder, Trainer& trainer) {
    const HuggingFaceFolder source(folder);
    const ParamLayout& layout = trainer.layout();
    const HuggingFaceMapping mapping(source.config(), layout);
    source.check(mapping);
    ParamStore& params = trainer.params();
    std::vector<float> row;
    std::vector<float> next;
    const auto read_next = [&](int unit) {
        next.resize(static_cast<size_t>(layout.units()[static_cast<size_t>(unit)].size));
        source.read_unit(mapping, unit, next);
    };
    // While a unit is written the next is read.
    std::future<void> reading = std::async(std::launch::async, read_next, 0);
    for (int unit = 0; unit < layout.num_units(); ++unit) {
        reading.get();
        row.swap(next);
        if (unit + 1 < layout.num_units()) {
            reading = std::async(std::launch::async, read_next, unit + 1);
        }
        params.write(unit, ParamState::parameters, 0, row);
        if (params.has_master()) {
            params.write(unit, ParamState::master, 0, row);
        }
        params.clear_moments(unit);
    }
}

void load_checkpoint(const fs::path& folder, const CheckpointState& state, Trainer& trainer) {
    load_parameters(folder, trainer);
    for (int unit = 0; unit < trainer.layout().num_units(); ++unit) {
        read_optimizer_file(folder, trainer, unit);
    }
    trainer.set_state(state.train);
}

fs::path checkpoint_path(const fs::path& run_folder, int64_t step) {
    return run_folder / "checkpoints" / fmt::format("{}{:08}", kStepPrefix, step);
}

std::vector<StoredCheckpoint> list_checkpoints(const fs::path& run_folder) {
    std::vector<StoredCheckpoint> stored;
    std::error_code error;
    for (const fs::directory_entry& entry :
         fs::directory_iterator(run_folder / "checkpoints", error)) {
        const std::string name = entry.path().filename().string();
        int64_t step = 0;
        if (!name.starts_with(kStepPrefix)) {
            continue;
        }
        const char* end = name.data() + name.size();
        const auto parsed = std::from_chars(name.data() + kStepPrefix.size(), end, step);
        if (parsed.ec == std::errc() && parsed.ptr == end) {
            stored.push_back({.step = step, .path = entry.path()});
        }
    }
    std::sort(stored.begin(), stored.end(),
              [](const auto& a, const auto& b) { return a.step < b.step; });
    return stored;
}

void prune_checkpoints(const fs::path& run_folder, int64_t keep) {
    std::vector<StoredCheckpoint> stored = list_checkpoints(run_folder);
    fs::path best;
    double best_loss = std::numeric_limits<double>::infinity();
    for (const StoredCheckpoint& checkpoint : stored) {
        const double loss = read_state(checkpoint.path).validation_loss.value_or(best_loss);
        if (loss < best_loss) {
            best_loss = loss;
            best = checkpoint.path;
        }
    }
    const auto surplus = static_cast<int64_t>(stored.size()) - keep;
    for (int64_t i = 0; i < surplus; ++i) {
        const fs::path& path = stored[static_cast<size_t>(i)].path;
        if (path == best) {
            continue;
        }
        // Renamed first: a kill in the middle of the removal leaves no half checkpoint under a
        // checkpoint's name.
        const fs::path doomed =
            path.parent_path() / fmt::format(".partial-removed-{}", path.filename().string());
        fs::rename(path, doomed);
        fs::remove_all(doomed);
    }
}

fs::path resolve_model_folder(const fs::path& path) {
    LATHE_CHECK_USAGE(fs::is_directory(path),
                      "{}: no such folder; give a run folder, a checkpoint or a model folder",
                      path.string());
    const std::vector<StoredCheckpoint> stored = list_checkpoints(path);
    LATHE_CHECK_USAGE(!stored.empty() || fs::exists(path / "config.json"),
                      "{}: holds neither checkpoints nor a model (config.json)", path.string());
    return stored.empty() ? path : stored.back().path;
}

}  // namespace lathe
