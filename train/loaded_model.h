// LoadedModel: a model folder made ready for inference: parameters only, no gradients, no
// optimizer.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "data/tokenizer.h"
#include "kernels/backend.h"
#include "model/hugging_face_folder.h"
#include "model/transformer.h"
#include "train/run_config.h"

namespace lathe {

/// Parameters that are only read.
class FrozenParams final : public ParamAccess {
  public:
    FrozenParams(const HuggingFaceFolder& folder, const ParamLayout& layout, Backend& backend,
                 DType compute);

    Tensor acquire(int unit) override { return rows_.at(static_cast<size_t>(unit)); }
    void release(int) override {}
    /// Both throw Error: there is nothing to train.
    Tensor gradients(int unit) override;
    void gradients_ready(int unit) override;

  private:
    std::vector<Buffer> rows_;
};

class LoadedModel {
  public:
    /// `path` is a model folder, or a run folder, which stands for its newest checkpoint. Throws
    /// UsageError naming what is missing, damaged or unsupported; also when the tokenizer has more
    /// tokens than the model.
    LoadedModel(const std::filesystem::path& path, const DeviceConfig& device);

    const ModelConfig& config() const { return folder_.config(); }
    const Tokenizer& tokenizer() const { return tokenizer_; }
    const std::filesystem::path& path() const { return folder_.path(); }
    Backend& backend() { return *backend_; }
    Transformer& transformer() { return transformer_; }
    ParamAccess& params() { return params_; }
    DType compute() const { return compute_; }

  private:
    HuggingFaceFolder folder_;
    Tokenizer tokenizer_;
    std::unique_ptr<Backend> backend_;
    DType compute_;
    ParamLayout layout_;
    FrozenParams params_;
    Transformer transformer_;
};

}  // namespace lathe
