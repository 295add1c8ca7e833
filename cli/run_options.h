// The fields of the run configuration as command-line options, grouped as in the file.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "train/run_config.h"

namespace lathe {

/// What `lathe train` was given: --config FILE and any field of run_fields(). Must outlive parsing.
class RunOptions {
  public:
    std::optional<std::string> config_file() const {
        return config_file_.empty() ? std::nullopt : std::optional(config_file_);
    }
    const RunOverrides& overrides() const { return overrides_; }

  private:
    friend void add_run_options(CLI::App& command, RunOptions& options);

    std::string config_file_;
    RunOverrides overrides_;
};

void add_run_options(CLI::App& command, RunOptions& options);

/// Adds one field as the option --KEY, collected in `overrides`. A boolean may stand alone:
/// --KEY is --KEY true.
CLI::Option* add_field_option(CLI::App& command, const RunField& field, RunOverrides& overrides);

}  // namespace lathe
