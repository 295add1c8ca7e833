// A whole checkpoint at once, as a run without --checkpoint-async writes it.
#pragma once

#include <filesystem>

#include "train/checkpoint_writer.h"
#include "train/log.h"

namespace lathe::testing {

/// All ranks. `folder` is the checkpoint's; the tokenizer is `tokenizer`.
inline void write_checkpoint(const std::filesystem::path& folder, Trainer& trainer,
                             const RunConfig& config, DType compute,
                             const std::filesystem::path& tokenizer) {
    CheckpointWriter writer(trainer, config,
                            {.tokenizer = tokenizer, .log = make_run_logger("/dev/null")});
    writer.begin(folder, {.train = trainer.state(),
                          .compute = compute,
                          .tokenizer_fingerprint = "",
                          .validation_loss = {}});
    writer.wait();
}

}  // namespace lathe::testing
