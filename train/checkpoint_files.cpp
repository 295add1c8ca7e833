#include "train/checkpoint_files.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "kernels/files.h"

namespace lathe {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr int kFormatVersion = 1;

}  // namespace

std::string state_text(const CheckpointState& state) {
    json text = {{"format", kFormatVersion},
                 {"step", state.train.step},
                 {"updates", state.train.updates},
                 {"bad_steps", state.train.bad_steps},
                 {"compute_dtype", name_of(state.compute)},
                 {"tokenizer_fingerprint", state.tokenizer_fingerprint}};
    if (state.validation_loss && std::isfinite(*state.validation_loss)) {
        text["validation_loss"] = *state.validation_loss;
    }
    return text.dump(1) + "\n";
}

CheckpointState read_state(const fs::path& folder) {
    const fs::path path = folder / kStateFile;
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

std::string optimizer_file_name(int unit, int num_units) {
    return fmt::format("optimizer-{:05}-of-{:05}.safetensors", unit + 1, num_units);
}

std::vector<OptimizerRow> optimizer_rows(const ParamStore& params) {
    std::vector<OptimizerRow> rows = {
        {.ending = ".first_moment", .state = ParamState::first_moment},
        {.ending = ".second_moment", .state = ParamState::second_moment}};
    if (params.has_master()) {
        rows.push_back({.ending = ".master", .state = ParamState::master});
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

}  // namespace lathe
