// ParamLayout: the name, shape and place of every parameter. It knows nothing of ranks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor.h"
#include "model/config.h"

namespace lathe {

/// One parameter tensor. Linear weights are [out, in].
struct ParamTensor {
    std::string name;  ///< e.g. "blocks.3.attention.qkv.weight"
    Shape shape;
    int unit = 0;
    int64_t offset = 0;     ///< elements from the start of its unit, a multiple of 64
    bool decayed = false;   ///< weight decay applies (matrices and tables, not norms or biases)
    double init_std = 0.0;  ///< normal with this deviation; 0: constant init_value
    float init_value = 0.0F;
};

/// A group of tensors that is gathered, used and reduced together: one flat row of whole chunks of
/// kChunkElements. Decayed tensors come first, so any range of a unit is decayed up to decayed_end
/// and not after.
struct ParamUnit {
    std::string name;         ///< "embedding", "blocks.0", ..., "final"
    int64_t size = 0;         ///< elements, padding included; a multiple of kChunkElements
    int64_t decayed_end = 0;  ///< elements [0, decayed_end) take weight decay
    int first_tensor = 0;     ///< its tensors are tensors()[first_tensor, last_tensor)
    int last_tensor = 0;
};

/// Units in order of forward use: embedding (with the head when tied), each block, final norm (with
/// an untied head).
///
/// Names: embedding.tokens [V', C], embedding.positions [P, C], embedding.norm.{weight,bias};
/// blocks.N.attention_norm.{weight,bias}, blocks.N.attention.qkv.{weight [(H+2K)D, C],bias},
/// blocks.N.attention.output.{weight [C, HD],bias}, blocks.N.mlp_norm.{weight,bias},
/// blocks.N.mlp.up.{weight [F, C] ([2F, C], gate rows then up rows, for swiglu),bias},
/// blocks.N.mlp.down.{weight [C, F],bias}; final_norm.{weight,bias}, head.weight [V', C].
class ParamLayout {
  public:
    explicit ParamLayout(const ModelConfig& config);

    const std::vector<ParamUnit>& units() const { return units_; }
    const std::vector<ParamTensor>& tensors() const { return tensors_; }
    std::span<const ParamTensor> tensors_of(int unit) const;
    int num_units() const { return static_cast<int>(units_.size()); }
    int embedding_unit() const { return 0; }
    int block_unit(int64_t layer) const { return 1 + static_cast<int>(layer); }
    int final_unit() const { return num_units() - 1; }
    /// nullptr when there is none of that name.
    const ParamTensor* find(std::string_view name) const;
    /// The tensor that holds element `offset` of a unit, or nullptr for padding.
    const ParamTensor* at(int unit, int64_t offset) const;

    /// Number of real parameters: vocabulary padding and chunk padding left out.
    int64_t num_parameters() const { return num_parameters_; }
    /// Elements of all units, padding included.
    int64_t num_elements() const;

  private:
    std::vector<ParamTensor> tensors_;
    std::vector<ParamUnit> units_;
    int64_t num_parameters_ = 0;
};

/// The view of `tensor` inside its unit's flat row.
Tensor view_of(const Tensor& unit_row, const ParamTensor& tensor);

/// Initial values of elements [first, first + values.size()) of a unit: a pure function of (seed,
/// tensor, element), so any rank can make any part. Padding, also the vocabulary's padded rows, is
/// 0.
void initialize(const ParamLayout& layout, const ModelConfig& config, int unit, int64_t first,
                uint64_t seed, std::span<float> values);

}  // namespace lathe
