#include "model/param_layout.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/error.h"
#include "kernels/operations.h"
#include "kernels/random.h"

namespace lathe {

namespace {

/// Every tensor starts at a multiple of this many elements: 128 bytes of bf16, a whole number of
/// cache lines and of vectors.
constexpr int64_t kAlignElements = 64;

int64_t round_up(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

bool is_vocabulary_table(std::string_view name) {
    return name == "embedding.tokens" || name == "head.weight";
}

/// Leading elements that are parameters; the rest are the vocabulary's padded rows.
int64_t real_elements(const ModelConfig& config, const ParamTensor& tensor) {
    return is_vocabulary_table(tensor.name) ? config.vocabulary_size * tensor.shape[1]
                                            : tensor.shape.size();
}

/// Lists a unit's tensors in the order in which they are used; place_units puts them in theirs.
class Lister {
  public:
    Lister(const ModelConfig& config, std::vector<ParamTensor>& tensors,
           std::vector<ParamUnit>& units)
        : config_(config), tensors_(tensors), units_(units) {}

    void unit(std::string name) {
        units_.push_back({std::move(name), 0, 0, static_cast<int>(tensors_.size()),
                          static_cast<int>(tensors_.size())});
    }

    void matrix(std::string name, Shape shape, bool writes_residual = false) {
        double init_std = config_.init_std;
        if (writes_residual && config_.init_rule == InitRule::scaled_residual) {
            init_std /= std::sqrt(2.0 * static_cast<double>(config_.layers));
        }
        add({std::move(name), shape, 0, 0, true, init_std, 0.0F});
    }

    void linear(const std::string& name, int64_t out, int64_t in, bool bias,
                bool writes_residual = false) {
        matrix(name + ".weight", {out, in}, writes_residual);
        if (bias) {
            add({name + ".bias", {out}, 0, 0, false, 0.0, 0.0F});
        }
    }

    void norm(const std::string& name) {
        add({name + ".weight", {config_.channels}, 0, 0, false, 0.0, 1.0F});
        if (config_.norm == NormKind::layernorm) {
            add({name + ".bias", {config_.channels}, 0, 0, false, 0.0, 0.0F});
        }
    }

  private:
    void add(ParamTensor tensor) {
        tensor.unit = static_cast<int>(units_.size()) - 1;
        tensors_.push_back(std::move(tensor));
        units_.back().last_tensor = static_cast<int>(tensors_.size());
    }

    const ModelConfig& config_;
    std::vector<ParamTensor>& tensors_;
    std::vector<ParamUnit>& units_;
};

void list_block(Lister& list, const ModelConfig& config, int64_t layer) {
    const std::string name = fmt::format("blocks.{}", layer);
    const int64_t channels = config.channels;
    const bool all_biases = config.biases == Biases::all;
    const int64_t up = (config.mlp == MlpKind::swiglu ? 2 : 1) * config.feed_forward;
    list.unit(name);
    list.norm(name + ".attention_norm");
    list.linear(name + ".attention.qkv", config.attention_heads().qkv_columns(), channels,
                config.biases != Biases::none);
    list.linear(name + ".attention.output", channels, channels, all_biases, true);
    list.norm(name + ".mlp_norm");
    list.linear(name + ".mlp.up", up, channels, all_biases);
    list.linear(name + ".mlp.down", channels, config.feed_forward, all_biases, true);
}

/// Sorts each unit's tensors, decayed ones first, and gives them their offsets.
void place_units(std::vector<ParamTensor>& tensors, std::vector<ParamUnit>& units) {
    for (ParamUnit& unit : units) {
        const auto first = tensors.begin() + unit.first_tensor;
        const auto last = tensors.begin() + unit.last_tensor;
        std::stable_partition(first, last,
                              [](const ParamTensor& tensor) { return tensor.decayed; });
        int64_t end = 0;
        for (auto tensor = first; tensor != last; ++tensor) {
            tensor->offset = round_up(end, kAlignElements);
            end = tensor->offset + tensor->shape.size();
            if (tensor->decayed) {
                unit.decayed_end = end;
            }
        }
        unit.size = round_up(end, kChunkElements);
    }
}

/// FNV-1a: a tensor's own stream of random numbers, whatever else the model has.
uint64_t hash_of(std::string_view name) {
    uint64_t hash = 0xcbf29ce484222325U;
    for (const char c : name) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    }
    return hash;
}

/// Four normal numbers (Box & Muller, 1958), for elements 4 i .. 4 i + 3 of the stream.
std::array<float, 4> normals(uint64_t seed, uint64_t stream, int64_t i) {
    const std::array<uint32_t, 4> bits = philox4x32(seed, static_cast<uint64_t>(i), stream);
    std::array<float, 4> values{};
    for (size_t pair = 0; pair < 4; pair += 2) {
        // (0, 1]: never 0, whose logarithm is infinite.
        const float u = (static_cast<float>(bits[pair]) + 0.5F) * 0x1p-32F;
        const float radius = std::sqrt(-2.0F * std::log(u));
        const float angle =
            2.0F * std::numbers::pi_v<float> * (static_cast<float>(bits[pair + 1]) * 0x1p-32F);
        values[pair] = radius * std::cos(angle);
        values[pair + 1] = radius * std::sin(angle);
    }
    return values;
}

/// values = elements [first, first + values.size()) of a normal tensor.
void fill_normal(uint64_t seed, uint64_t stream, float init_std, int64_t first,
                 std::span<float> values) {
    const auto count = static_cast<int64_t>(values.size());
    const int64_t last = first + count;
    // Below this, starting threads costs more than the numbers.
    constexpr int64_t kWorthThreads = 1 << 16;
#pragma omp parallel for schedule(static) if (count > kWorthThreads)
    for (int64_t group = first / 4; group < (last + 3) / 4; ++group) {
        const std::array<float, 4> four = normals(seed, stream, group);
        for (int64_t i = std::max(first, 4 * group); i < std::min(last, 4 * group + 4); ++i) {
            values[static_cast<size_t>(i - first)] =
                init_std * four[static_cast<size_t>(i - 4 * group)];
        }
    }
}

}  // namespace

ParamLayout::ParamLayout(const ModelConfig& config) {
    const int64_t channels = config.channels;
    Lister list(config, tensors_, units_);
    list.unit("embedding");
    list.matrix("embedding.tokens", {config.padded_vocabulary(), channels});
    if (config.positions == Positions::learned) {
        list.matrix("embedding.positions", {config.sequence_length, channels});
    }
    if (config.embedding_norm) {
        list.norm("embedding.norm");
    }
    for (int64_t layer = 0; layer < config.layers; ++layer) {
        list_block(list, config, layer);
    }
    list.unit("final");
    list.norm("final_norm");
    if (!config.tied_embeddings) {
        list.matrix("head.weight", {config.padded_vocabulary(), channels});
    }
    place_units(tensors_, units_);
    for (const ParamTensor& tensor : tensors_) {
        num_parameters_ += real_elements(config, tensor);
    }
}

std::span<const ParamTensor> ParamLayout::tensors_of(int unit) const {
    const ParamUnit& u = units_.at(static_cast<size_t>(unit));
    return std::span(tensors_).subspan(static_cast<size_t>(u.first_tensor),
                                       static_cast<size_t>(u.last_tensor - u.first_tensor));
}

const ParamTensor* ParamLayout::find(std::string_view name) const {
    const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                    [&](const ParamTensor& tensor) { return tensor.name == name; });
    return found == tensors_.end() ? nullptr : &*found;
}

const ParamTensor* ParamLayout::at(int unit, int64_t offset) const {
    for (const ParamTensor& tensor : tensors_of(unit)) {
        if (offset >= tensor.offset && offset < tensor.offset + tensor.shape.size()) {
            return &tensor;
        }
    }
    return nullptr;
}

int64_t ParamLayout::num_elements() const {
    int64_t elements = 0;
    for (const ParamUnit& unit : units_) {
        elements += unit.size;
    }
    return elements;
}

Tensor view_of(const Tensor& unit_row, const ParamTensor& tensor) {
    return unit_row.slice(tensor.offset, tensor.offset + tensor.shape.size()).view(tensor.shape);
}

void initialize(const ParamLayout& layout, const ModelConfig& config, int unit, int64_t first,
                uint64_t seed, std::span<float> values) {
    const int64_t last = first + static_cast<int64_t>(values.size());
    std::fill(values.begin(), values.end(), 0.0F);
    for (const ParamTensor& tensor : layout.tensors_of(unit)) {
        const int64_t begin = std::max(first, tensor.offset);
        const int64_t end = std::min(last, tensor.offset + real_elements(config, tensor));
        if (begin >= end) {
            continue;
        }
        const std::span<float> part =
            values.subspan(static_cast<size_t>(begin - first), static_cast<size_t>(end - begin));
        if (tensor.init_std > 0.0) {
            fill_normal(seed, hash_of(tensor.name), static_cast<float>(tensor.init_std),
                        begin - tensor.offset, part);
        } else {
            std::fill(part.begin(), part.end(), tensor.init_value);
        }
    }
}

}  // namespace lathe
