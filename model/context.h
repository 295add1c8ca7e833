// ModelContext: what every part of the model computes with: the configuration, the backend with its
// workspace, the tables, and the probe.
#pragma once

#include <functional>
#include <string_view>

#include "kernels/backend.h"
#include "model/config.h"
#include "model/param_layout.h"

namespace lathe {

/// Called with the name of each intermediate ("blocks.3.attention.qkv") as it is made, to find
/// where a NaN began.
using Probe = std::function<void(std::string_view name, const Tensor& value)>;

struct ModelContext {
    ModelContext(const ModelConfig& model_config, const ParamLayout& param_layout,
                 Backend& model_backend, DType compute_dtype);

    /// Memory for an intermediate of the compute type.
    Buffer activation(Shape shape) const;
    /// Memory for statistics of the accumulation type.
    Buffer statistic(Shape shape) const;
    /// Shows an intermediate to the probe as "unit.name"; costs nothing without one.
    void observe(std::string_view unit, std::string_view name, const Tensor& value) const;

    const ModelConfig config;
    const ParamLayout& layout;
    Backend& backend;
    Workspace workspace;
    DType compute;
    DType accumulation;
    Buffer rotary_table;  ///< [sequence_length, D] accumulation, with rotary positions
    Buffer slopes;        ///< [H] accumulation, with ALiBi
    Probe probe;
};

/// A unit's row (of parameters, or of gradients) seen by tensor name.
class UnitView {
  public:
    UnitView(const ParamLayout& layout, int unit, const Tensor& row);

    /// "attention.qkv.weight" of "blocks.3", or absent when the model has none. The unit's name is
    /// not repeated, except in "final", whose tensors do not carry it.
    Tensor operator[](std::string_view name) const { return find(name, ""); }
    /// The same of `name` and `ending` together (no string is made: a step looks up hundreds).
    Tensor find(std::string_view name, std::string_view ending) const;

  private:
    std::span<const ParamTensor> tensors_;
    std::string prefix_;
    Tensor row_;
};

}  // namespace lathe
