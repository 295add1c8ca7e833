#include "train/loaded_model.h"

#include "train/checkpoint.h"
#include "train/device.h"

namespace lathe {

FrozenParams::FrozenParams(const HuggingFaceFolder& folder, const ParamLayout& layout,
                           Backend& backend, DType compute) {
    const HuggingFaceMapping mapping(folder.config(), layout);
    folder.check(mapping);
    Workspace workspace(backend);
    for (int unit = 0; unit < layout.num_units(); ++unit) {
        const int64_t size = layout.units()[static_cast<size_t>(unit)].size;
        std::vector<float> row(static_cast<size_t>(size));
        folder.read_unit(mapping, unit, row);
        Buffer wide = backend.allocate({size}, DType::f32, MemoryCategory::parameters);
        backend.copy_from_host(wide, row.data());
        if (compute == DType::f32) {
            rows_.push_back(std::move(wide));
            continue;
        }
        rows_.push_back(backend.allocate({size}, compute, MemoryCategory::parameters));
        workspace.run(Cast{.x = wide, .y = rows_.back()});
    }
}

Tensor FrozenParams::gradients(int) { fail("a model loaded for inference has no gradients"); }

void FrozenParams::gradients_ready(int) { fail("a model loaded for inference has no gradients"); }

LoadedModel::LoadedModel(const std::filesystem::path& path, const DeviceConfig& device)
    : folder_(resolve_model_folder(path)),
      tokenizer_(Tokenizer::load(folder_.path() / "tokenizer.json")),
      backend_(make_backend(device)),
      compute_(compute_dtype(device, *backend_)),
      layout_(folder_.config()),
      params_(folder_, layout_, *backend_, compute_),
      transformer_(folder_.config(), layout_, *backend_, compute_, Recompute::none) {
    LATHE_CHECK_USAGE(
        tokenizer_.vocabulary_size() <= config().vocabulary_size,
        "{}: the tokenizer has {} tokens, the model's vocabulary {}; they do not belong together",
        folder_.path().string(), tokenizer_.vocabulary_size(), config().vocabulary_size);
}

}  // namespace lathe
