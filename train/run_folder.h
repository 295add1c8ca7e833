// RunFolder: config.toml, metrics.jsonl, TensorBoard events, log.txt, checkpoints/ of one run, held
// by one process.
#pragma once

#include <filesystem>

#include "train/run_config.h"

namespace lathe {

class RunFolder {
  public:
    /// Creates the folder, or takes one that holds an earlier part of the same run, and locks it
    /// while this object lives. Throws UsageError when the folder holds another run (naming the
    /// fields that differ), holds something else, is in use by another process, or, with `fresh`,
    /// holds any run at all; nothing is then changed in it.
    RunFolder(const std::filesystem::path& path, const RunConfig& config, bool fresh);
    RunFolder(const RunFolder&) = delete;
    RunFolder& operator=(const RunFolder&) = delete;
    /// Removes a folder that it made and that never became a run's (write_config).
    ~RunFolder();

    const std::filesystem::path& path() const { return path_; }
    /// Writes config.toml: from here on the folder is this run's.
    void write_config(const RunConfig& config) const;

  private:
    void create(const std::filesystem::path& folder) const;
    void check_content(const RunConfig& config, bool fresh) const;

    std::filesystem::path path_;
    bool made_;
    int lock_ = -1;
};

}  // namespace lathe
