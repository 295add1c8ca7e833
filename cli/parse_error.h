// What was wrong with a command line, in one line.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace lathe {

/// Names what was not understood and the nearest thing that would have been: "--micro-batc: unknown
/// option; did you mean --micro-batch?". Other errors get CLI11's own text.
std::string parse_error_text(const CLI::App& app, const CLI::ParseError& error);

}  // namespace lathe
