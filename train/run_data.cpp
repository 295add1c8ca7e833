#include "train/run_data.h"

#include <string>

#include "model/hugging_face_folder.h"
#include "parallel/shared_failure.h"
#include "train/checkpoint.h"

namespace lathe {
namespace fs = std::filesystem;
namespace {

std::string fingerprint_text(const Tokenizer& tokenizer) {
    return fmt::format("{:016x}", tokenizer.fingerprint());
}

void check_tokenizer(const fs::path& folder, const std::string& fingerprint,
                     const RunConfig& config, const RunData& data) {
    LATHE_CHECK_USAGE(fingerprint == data.info.tokenizer_fingerprint,
                      "--data {}: its tokenizer is not the one that {} was trained with; prepare "
                      "the data with --tokenizer {}",
                      config.data.data, folder.string(), (folder / "tokenizer.json").string());
}

}  // namespace

RunData::RunData(const fs::path& folder)
    : tokenizer_path(folder / "tokenizer.json"),
      info(read_dataset_info(folder)),
      tokenizer(Tokenizer::load(tokenizer_path)),
      train(folder, "train"),
      validation(folder, "validation") {
    LATHE_CHECK_USAGE(fingerprint_text(tokenizer) == info.tokenizer_fingerprint,
                      "{}: is not the tokenizer that {} was made with; prepare the data again",
                      tokenizer_path.string(), (folder / "dataset.json").string());
}

void resolve(RunConfig& config, const DatasetInfo& info) {
    ModelConfig& model = config.model;
    if (model.vocabulary_size == 0) {
        model.vocabulary_size = info.vocabulary_size;
    }
    if (config.train.sequence_length == 0) {
        config.train.sequence_length = model.sequence_length;
    }
    LATHE_CHECK_USAGE(model.vocabulary_size >= info.vocabulary_size,
                      "vocabulary-size = {}: the tokenizer of {} has {} tokens; leave it out to "
                      "take the tokenizer's",
                      model.vocabulary_size, config.data.data, info.vocabulary_size);
    config.validate();
    model.validate();
}

void check_continues(const fs::path& folder, const CheckpointState& state, const RunConfig& config,
                     const RunData& data, DType compute) {
    LATHE_CHECK_USAGE(state.compute == compute, "--dtype {}: {} was trained in {}; use --dtype {}",
                      name_of(compute), folder.string(), name_of(state.compute),
                      name_of(state.compute));
    check_tokenizer(folder, state.tokenizer_fingerprint, config, data);
}

void check_resume(const RunConfig& config, const RunData& data, DType compute) {
    const std::string& resume = config.checkpoint.resume;
    if (resume == "auto" || resume == "never") {
        return;
    }
    const HuggingFaceFolder folder(resolve_model_folder(resume));
    if (is_checkpoint(folder.path())) {
        check_continues(folder.path(), read_state(folder.path()), config, data, compute);
    } else if (fs::exists(folder.path() / "tokenizer.json")) {
        check_tokenizer(folder.path(),
                        fingerprint_text(Tokenizer::load(folder.path() / "tokenizer.json")), config,
                        data);
    }
    const ParamLayout layout(config.model);
    folder.check(HuggingFaceMapping(config.model, layout));
}

void check_ranks_agree(Communicator& world, const RunConfig& config, const RunData& data,
                       const Backend& backend, DType compute) {
    for (const RunField& field : run_fields()) {
        check_equal_on_all_ranks(world, field.key, field.get(config));
    }
    check_equal_on_all_ranks(world, "the data's tokenizer", data.info.tokenizer_fingerprint);
    check_equal_on_all_ranks(world, "the number of training tokens",
                             std::to_string(data.train.num_tokens()));
    check_equal_on_all_ranks(world, "the number of validation tokens",
                             std::to_string(data.validation.num_tokens()));
    check_equal_on_all_ranks(world, "the training text (fingerprint of a sample)",
                             fmt::format("{:016x}", data.train.sample_fingerprint()));
    check_equal_on_all_ranks(world, "the validation text (fingerprint of a sample)",
                             fmt::format("{:016x}", data.validation.sample_fingerprint()));
    check_equal_on_all_ranks(world, "the device", backend.device().name);
    check_equal_on_all_ranks(world, "the compute type", std::string(name_of(compute)));
}

}  // namespace lathe
