#include "model/context.h"

#include <fmt/format.h>

#include <functional>
#include <vector>

namespace lathe {

namespace {

/// A table of the accumulation type on the device. Its values are only made where they are kept.
Buffer upload(Backend& backend, const std::function<std::vector<double>()>& make_values,
              Shape shape, DType dtype) {
    Buffer buffer = backend.allocate(shape, dtype, MemoryCategory::workspace);
    if (!backend.device().computes) {
        return buffer;
    }
    const std::vector<double> values = make_values();
    if (dtype == DType::f64) {
        backend.copy_from_host(buffer, values.data());
    } else {
        const std::vector<float> rounded(values.begin(), values.end());
        backend.copy_from_host(buffer, rounded.data());
    }
    return buffer;
}

}  // namespace

ModelContext::ModelContext(const ModelConfig& model_config, const ParamLayout& param_layout,
                           Backend& model_backend, DType compute_dtype)
    : config(model_config),
      layout(param_layout),
      backend(model_backend),
      workspace(model_backend),
      compute(compute_dtype),
      accumulation(accumulation_dtype(compute_dtype)) {
    if (config.positions == Positions::rotary) {
        rotary_table = upload(
            backend,
            [&] {
                return lathe::rotary_table(config.sequence_length, config.head_size(),
                                           config.rotary_theta);
            },
            {config.sequence_length, config.head_size()}, accumulation);
    } else if (config.positions == Positions::alibi) {
        slopes = upload(
            backend,
            [&] {
                const std::vector<float> values = alibi_slopes(config.heads);
                return std::vector<double>(values.begin(), values.end());
            },
            {config.heads}, accumulation);
    }
}

Buffer ModelContext::activation(Shape shape) const {
    return backend.allocate(shape, compute, MemoryCategory::activations);
}

Buffer ModelContext::statistic(Shape shape) const {
    return backend.allocate(shape, accumulation, MemoryCategory::activations);
}

void ModelContext::observe(std::string_view unit, std::string_view name,
                           const Tensor& value) const {
    if (probe) {
        probe(fmt::format("{}.{}", unit, name), value);
    }
}

UnitView::UnitView(const ParamLayout& layout, int unit, const Tensor& row)
    : tensors_(layout.tensors_of(unit)), row_(row) {
    if (unit != layout.final_unit()) {
        prefix_ = layout.units()[static_cast<size_t>(unit)].name + ".";
    }
}

Tensor UnitView::find(std::string_view name, std::string_view ending) const {
    for (const ParamTensor& tensor : tensors_) {
        std::string_view full = tensor.name;
        if (full.size() == prefix_.size() + name.size() + ending.size() && full.ends_with(ending)) {
            full.remove_suffix(ending.size());
            if (full.ends_with(name)) {
                return view_of(row_, tensor);
            }
        }
    }
    return {};
}

}  // namespace lathe
