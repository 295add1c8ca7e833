#include "train/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
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

constexpr int kFormatVersion = 1;
constexpr std::string_view kStepPrefix = "step-";
constexpr const char* kChecksums = "checksums.json";
constexpr const char* kState = "state.json";

std::string optimizer_file_name(int unit, int num_units) {
    return fmt::format("optimizer-{:05}-of-{:05}.safetensors", unit + 1, num_units);
}

/// The optimizer's rows of one tensor, by the ending of their names.
std::vector<std::pair<std::string, ParamState>> optimizer_rows(const ParamStore& params) {
    std::vector<std::pair<std::string, ParamState>> rows = {
        {".first_moment", ParamState::first_moment}, {".second_moment", ParamState::second_moment}};
    if (params.has_master()) {
        rows.emplace_back(".master", ParamState::master);
    }
    return rows;
}

std::vector<int64_t> extents_of(const Shape& shape) {
    std::vector<int64_t> extents;
    for (int i = 0; i < shape.rank(); ++i) {
        extents.push_back(shape[i]);
    }
    return extents;
}

std::vector<SafetensorsTensor> optimizer_tensors(const ParamStore& params,
                                                 std::span<const ParamTensor> tensors) {
    std::vector<SafetensorsTensor> declared;
    for (const auto& [ending, state] : optimizer_rows(params)) {
        for (const ParamTensor& tensor : tensors) {
            declared.push_back(
                {.name = tensor.name + ending, .dtype = "F32", .shape = extents_of(tensor.shape)});
        }
    }
    return declared;
}

/// Writes the files of `num_units` units, from `first` on, each by another rank: all gather a row
/// of each, then all write. A rank that cannot write goes on gathering; the failure is the others'
/// at the next agreement.
class UnitFiles {
  public:
    UnitFiles(const fs::path& folder, Trainer& trainer, const HuggingFaceMapping& mapping,
              DType compute, int first, int num_units)
        : folder_(folder),
          trainer_(trainer),
          mapping_(mapping),
          compute_(compute),
          first_(first),
          num_units_(num_units) {}

    void write(SharedFailure& failure) {
        std::vector<float> row = gather(ParamState::parameters);
        if (has_unit()) {
            failure.run([&] { write_unit_file(folder_, mapping_, unit(), row, compute_); });
        }
        std::optional<SafetensorsWriter> writer;
        if (has_unit()) {
            failure.run([&] {
                writer.emplace(optimizer_file(), optimizer_tensors(trainer_.params(), tensors()));
            });
        }
        size_t index = 0;
        for (const auto& [ending, state] : optimizer_rows(trainer_.params())) {
            row = gather(state);
            if (writer) {
                failure.run([&] { append(*writer, index, row); });
            }
        }
        if (writer) {
            failure.run([&] { writer->finish(); });
        }
    }

  private:
    bool has_unit() const { return trainer_.world().rank() < num_units_; }
    int unit() const { return first_ + trainer_.world().rank(); }
    std::span<const ParamTensor> tensors() const { return trainer_.layout().tensors_of(unit()); }
    fs::path optimizer_file() const {
        return folder_ / optimizer_file_name(unit(), trainer_.layout().num_units());
    }

    /// The row of this rank's unit.
    std::vector<float> gather(ParamState state) {
        std::vector<float> mine;
        for (int root = 0; root < num_units_; ++root) {
            std::vector<float> row = trainer_.params().gather(first_ + root, state, root);
            if (root == trainer_.world().rank()) {
                mine = std::move(row);
            }
        }
        return mine;
    }

    void append(SafetensorsWriter& writer, size_t& index, const std::vector<float>& row) const {
        for (const ParamTensor& tensor : tensors()) {
            const std::span<const float> values(row.data() + tensor.offset,
                                                static_cast<size_t>(tensor.shape.size()));
            writer.write(index++, 0, std::as_bytes(values));
        }
    }

    const fs::path& folder_;
    Trainer& trainer_;
    const HuggingFaceMapping& mapping_;
    DType compute_;
    int first_;
    int num_units_;
};

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

json to_json(const CheckpointState& state) {
    json text = {{"format", kFormatVersion},
                 {"step", state.train.step},
                 {"updates", state.train.updates},
                 {"bad_steps", state.train.bad_steps},
                 {"compute_dtype", name_of(state.compute)},
                 {"tokenizer_fingerprint", state.tokenizer_fingerprint}};
    if (state.validation_loss && std::isfinite(*state.validation_loss)) {
        text["validation_loss"] = *state.validation_loss;
    }
    return text;
}

CheckpointState read_state(const fs::path& folder) {
    const fs::path path = folder / kState;
    try {
        const json text = json::parse(read_file(path));
        LATHE_CHECK_USAGE(text.at("format") == kFormatVersion,
                          "{}: format = {}: this Lathe reads format {}", path.string(),
                          text.at("format").dump(), kFormatVersion);
        CheckpointState state;
        state.train = {.step = text.at("step"),
                       .updates = text.at("updates"),
                       .bad_steps = text.at("bad_steps")};
        state.compute = text.at("compute_dtype") == name_of(DType::bf16) ? DType::bf16 : DType::f32;
        state.tokenizer_fingerprint = text.at("tokenizer_fingerprint");
        if (text.contains("validation_loss")) {
            state.validation_loss = text.at("validation_loss").get<double>();
        }
        return state;
    } catch (const json::exception& error) {
        fail_usage(
            "{}: not a checkpoint's state: {}; remove the folder to go on from an earlier "
            "checkpoint",
            path.string(), error.what());
    }
}

void write_checksums(const fs::path& folder) {
    json checksums = json::object();
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        checksums[entry.path().filename().string()] = {{"bytes", entry.file_size()},
                                                       {"xxh3", checksum_file(entry.path())}};
    }
    write_file(folder / kChecksums, checksums.dump(1) + "\n");
}

void compare_checksums(const fs::path& folder) {
    const fs::path path = folder / kChecksums;
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
    LATHE_CHECK_USAGE(checksums.contains(kState),
                      "{}: names no {}; remove {} to go on from an earlier checkpoint",
                      path.string(), kState, folder.string());
}

}  // namespace

void write_checkpoint(const fs::path& folder, Trainer& trainer, const RunConfig& config,
                      const CheckpointState& state, const fs::path& tokenizer) {
    Communicator& world = trainer.world();
    const CollectiveLabel label = {.tensor = "a checkpoint", .step = state.train.step};
    SharedFailure failure(world);
    std::optional<FolderWriter> writer;
    if (world.rank() == 0) {
        failure.run([&] { writer.emplace(folder); });
    }
    failure.agree(label);
    const std::string mine = writer ? writer->path().string() : "";
    const auto paths = world.all_gather_bytes(std::as_bytes(std::span(mine)), label);
    const fs::path partial(
        std::string(reinterpret_cast<const char*>(paths[0].data()), paths[0].size()));

    const HuggingFaceMapping mapping(config.model, trainer.layout());
    const int num_units = trainer.layout().num_units();
    for (int first = 0; first < num_units; first += world.size()) {
        UnitFiles(partial, trainer, mapping, state.compute, first,
                  std::min(world.size(), num_units - first))
            .write(failure);
    }
    failure.agree(label);
    if (world.rank() == 0) {
        failure.run([&] {
            write_index_file(partial, mapping, state.compute);
            write_config_file(partial, config.model, state.compute);
            write_file(partial / "tokenizer.json", read_file(tokenizer));
            write_file(partial / "run.toml", to_toml(config));
            write_file(partial / kState, to_json(state).dump(1) + "\n");
            write_checksums(partial);
            writer->finish();
        });
    }
    failure.agree(label);
}

bool is_checkpoint(const fs::path& folder) { return fs::exists(folder / kState); }

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
    const HuggingFaceMapping mapping(source.config(), trainer.layout());
    source.check(mapping);
    ParamStore& params = trainer.params();
    for (int unit = 0; unit < trainer.layout().num_units(); ++unit) {
        std::vector<float> row(
            static_cast<size_t>(trainer.layout().units()[static_cast<size_t>(unit)].size));
        source.read_unit(mapping, unit, row);
        params.write(unit, ParamState::parameters, 0, row);
        if (params.has_master()) {
            params.write(unit, ParamState::master, 0, row);
        }
        std::fill(row.begin(), row.end(), 0.0F);
        params.write(unit, ParamState::first_moment, 0, row);
        params.write(unit, ParamState::second_moment, 0, row);
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
