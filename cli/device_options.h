// --device, --dtype, --matmul and --threads for the commands that only use a model; the same fields
// as in a run's configuration.
#pragma once

#include <CLI/CLI.hpp>

#include "train/run_config.h"

namespace lathe {

class DeviceOptions {
  public:
    void add_to(CLI::App& command);
    /// Throws UsageError naming the option and its value.
    DeviceConfig config() const;

  private:
    RunOverrides given_;
};

}  // namespace lathe
