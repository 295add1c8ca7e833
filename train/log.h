// The run's log: log.txt in the run folder, warnings also on standard error.
#pragma once

#include <spdlog/logger.h>

#include <memory>
#include <string>

namespace lathe {

/// A logger that appends to `file` and shows warnings and errors on standard error.
std::shared_ptr<spdlog::logger> make_run_logger(const std::string& file);

}  // namespace lathe
